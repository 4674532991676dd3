//! Containers with real processes, as whoever runs the tests. The image is one
//! static busybox; the monitors are the real binary.

mod fixture;
mod foreground;
mod life;
mod limits;
mod ports;
