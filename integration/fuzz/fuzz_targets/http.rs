//! HTTP as those speak it who watch and steer ([http] and the control socket): any bytes, whole and in pieces.
//!
//! The site sees the same requests however they are cut, up to where the connection ends, each with a path and nothing behind it;
//! what is answered is HTTP; the connection ends, and takes no more memory than a head may have.
#![no_main]

use encr_milter::http::{Answer, Manner, Request, Site, StatusCode, serve};
use encr_milter_fuzz::{memory, wire};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// Takes down what is asked, and always says the same.
#[derive(Default)]
struct Listening(Mutex<Vec<String>>);

const BODY: &str = "a body of ours\n";

impl Site for Listening {
    async fn answer(&self, request: Request) -> Answer {
        // Not more than hyper says of it: whoever shows a path has to escape it.
        assert!(
            request.path.bytes().all(|b| b > b' ' && b != 0x7f) && !request.path.contains('?'),
            "{request:?}"
        );
        let heard = format!("{} {} {:?}", request.method, request.path, request.accept);
        self.0.lock().expect("nobody has panicked").push(heard);
        match request.path.len() % 3 {
            0 => Answer::text(StatusCode::OK, BODY),
            1 => Answer::not_found(),
            _ => Answer::method_not_allowed("GET"),
        }
    }
}

/// What the site heard, and what the client was told.
fn ask(pieces: Vec<Vec<u8>>) -> (Vec<String>, Vec<u8>) {
    let site = Arc::new(Listening::default());
    let heard = Arc::clone(&site);
    let told = wire::run(async move {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let (keep, drain) = watch::channel(false);
        let asking = async move {
            for piece in pieces {
                // The connection may be over already.
                if theirs.write_all(&piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let _ = theirs.shutdown().await;
            let mut told = Vec::new();
            theirs.read_to_end(&mut told).await.expect("memory");
            told
        };
        let (_, told) = tokio::join!(serve(ours, site, drain, Manner::default()), asking);
        drop(keep);
        told
    });
    let heard = heard.0.lock().expect("nobody has panicked").clone();
    (heard, told)
}

fuzz_target!(|bytes: &[u8]| {
    let (heard, told) = memory::bounded(bytes.len(), 100, || ask(vec![bytes.to_vec()]));
    assert!(told.is_empty() || told.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&told));
    assert!(told.is_ascii());
    let answers =
        told.windows(9).filter(|window| window.starts_with(b"HTTP/1.") && window[8] == b' ').count();
    assert!(answers >= heard.len(), "{heard:?}: {}", String::from_utf8_lossy(&told));
    let sizes = &bytes[..bytes.len().min(4)];
    // Behind a body that nobody reads, and that is not all there, the connection ends.
    let (pieces, _) = ask(wire::cut(bytes, sizes));
    assert!(heard.starts_with(&pieces) || pieces.starts_with(&heard), "{heard:?}, in pieces {pieces:?}");
});
