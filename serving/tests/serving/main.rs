//! What serving promises, over fake features and models.

mod deploying;
mod fakes;
mod logging;
mod requests;
mod traffic;
