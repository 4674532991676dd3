//! Provenance of builds.
