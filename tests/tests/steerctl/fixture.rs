//! What the tests share.

/// A test that runs with its name where this machine can, and says `SKIP` where not.
macro_rules! test {
    ($name:ident, $work:expr) => {
        #[test]
        fn $name() -> anyhow::Result<()> {
            if let Some(reason) = steer_tests::steerctl::missing() {
                println!("SKIP {}: {reason}", stringify!($name));
                return Ok(());
            }
            let work: fn(&str) -> anyhow::Result<()> = $work;
            work(stringify!($name))
        }
    };
}

pub(crate) use test;
