//! What a fault is to the suite: a name, a function and a promise.

use std::pin::Pin;
use std::time::Duration;

use crate::harness::world::{Setup, World};

/// Within what time after healing every client must hold the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Notifications arrive: 250 ms.
    HintArrives,
    /// Notifications are lost, polls find it: 1.5 s.
    HintLost,
    /// PostgreSQL, or a replica, comes back: 5 s.
    Back,
}

impl Promise {
    /// What is asserted: ten times the promise, on a machine that does other things too.
    pub fn bound(self) -> Duration {
        10 * match self {
            Self::HintArrives => Duration::from_millis(250),
            Self::HintLost => Duration::from_millis(1_500),
            Self::Back => Duration::from_secs(5),
        }
    }
}

/// A fault: breaks the world for as long as it has time, and leaves it whole.
pub type Break = for<'a> fn(&'a mut World) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

/// One row of the table.
pub struct Entry {
    pub name: &'static str,
    pub promise: Promise,
    pub setup: fn() -> Setup,
    pub run: Break,
}

/// Makes the table, and a test of each fault's short pass. A row is `module::function: Promise`, and perhaps `, setup_function`.
macro_rules! faults {
    ($($module:ident :: $fault:ident : $promise:ident $(, $setup:ident)?;)*) => {
        /// Every fault.
        pub const FAULTS: &[$crate::table::Entry] = &[$($crate::table::Entry {
            name: concat!(stringify!($module), "::", stringify!($fault)),
            promise: $crate::table::Promise::$promise,
            setup: $crate::table::faults!(@setup $module $($setup)?),
            run: |world| Box::pin($module::$fault(world)),
        }),*];

        mod short {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $fault() {
                let name = concat!(stringify!($module), "::", stringify!($fault));
                $crate::run::short(name).await;
            })*
        }
    };
    (@setup $module:ident $setup:ident) => { $module::$setup };
    (@setup $module:ident) => { $crate::harness::world::Setup::default };
}
pub(crate) use faults;
