//! Tables as they grow, crash, shrink and are read back.

mod crash;
mod faults;
mod maintenance;
mod rig;
mod stage;
mod table;
