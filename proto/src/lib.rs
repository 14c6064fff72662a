//! The gRPC contract: generated code, the descriptors that reflection serves, and JSON <-> `Struct`.

mod json;

pub use json::{from_struct, to_struct, value_to_json};

/// Descriptors of every service, encoded, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! packages {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        pub mod $name {
            #![allow(clippy::all, clippy::pedantic, rustdoc::all, missing_docs)]
            include!(concat!(env!("OUT_DIR"), "/millpond.", stringify!($name), ".v1.rs"));
        }
    )+};
}

packages! {
    /// `millpond.access.v1`
    access,
    /// `millpond.features.v1`
    features,
    /// `millpond.registry.v1`
    registry,
    /// `millpond.serving.v1`
    serving,
    /// `millpond.evaluator.v1`
    evaluator,
    /// `millpond.pipelines.v1`
    pipelines,
}

/// The protocols of Feast 0.67, under the names of its packages.
pub mod feast {
    macro_rules! packages {
        ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
            $(#[$doc])*
            pub mod $name {
                #![allow(clippy::all, clippy::pedantic, rustdoc::all, missing_docs)]
                include!(concat!(env!("OUT_DIR"), "/feast.", stringify!($name), ".rs"));
            }
        )+};
    }

    packages! {
        /// `feast.types`
        types,
        /// `feast.core`
        core,
        /// `feast.registry`
        registry,
        /// `feast.serving`
        serving,
    }
}
