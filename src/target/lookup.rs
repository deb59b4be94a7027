//! A name's addresses, asked of the system on threads of their own: a lookup that stalls can be neither cut off nor
//! allowed to hold a thread that someone else needs.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

/// Most lookups of one target's name at once.
const LOOKUPS: usize = 2;
/// Most addresses of a name that are tried.
const ADDRESSES: usize = 8;
/// For the system's resolver and the modules that it loads.
const STACK: usize = 512 * 1024;

/// Who is asked.
type Ask = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The lookups of one target.
#[derive(Clone)]
pub(super) struct Resolver {
    places: Arc<Semaphore>,
    ask: Arc<Ask>,
}

impl Resolver {
    /// Asks the system.
    pub(super) fn system() -> Self {
        Self::asking(|host, port| (host, port).to_socket_addrs().map(Iterator::collect))
    }

    pub(super) fn asking(
        ask: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self { places: Arc::new(Semaphore::new(LOOKUPS)), ask: Arc::new(ask) }
    }

    /// The addresses of a name, the families taking turns so that neither has to fail as a whole first.
    pub(super) async fn look_up(&self, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
        let (tell, found) = oneshot::channel();
        let ask = Arc::clone(&self.ask);
        let thread = std::thread::Builder::new().name("lookup".into()).stack_size(STACK);
        // Nobody waits for the thread: it ends with the lookup, and its place is free only then.
        thread.spawn(move || {
            drop(tell.send(ask(&host, port)));
            drop(place);
        })?;
        Ok(in_turns(found.await.map_err(io::Error::other)??))
    }
}

/// The first address's family begins, as the system prefers it.
fn in_turns(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut turns = Vec::new();
    while turns.len() < ADDRESSES {
        let pair = [one.next(), other.next()];
        if pair == [None, None] {
            break;
        }
        turns.extend(pair.into_iter().flatten());
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_families_take_turns_and_the_systems_first_choice_begins() {
        let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]);
        let expected = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]);
        assert_eq!(in_turns(found), expected);
        assert_eq!(in_turns(addresses(&["1.1.1.1:1"; 50])).len(), ADDRESSES);
        assert!(in_turns(Vec::new()).is_empty());
    }
}
