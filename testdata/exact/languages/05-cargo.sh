# user: app
# workdir: /home/app/cargo-program
set -eu
export CARGO_HTTP_CAINFO=/steps/certificates.crt SSL_CERT_FILE=/steps/certificates.crt
cargo init --quiet --vcs none --name program .
printf 'memchr = "=2.6.3"\nlibc = "=0.2.147"\n' >>Cargo.toml
cargo build --quiet
cargo run --quiet >out
cat out
# As above.
rm -rf target/debug/incremental target/debug/.fingerprint
