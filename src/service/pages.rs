//! Pages of metrics: written when asked for, and shared by all who asked before.
//!
//! Promises: a page is written on a thread of its own, one at a time and at most a twentieth of the time; nobody gets one that
//! was begun before he asked. No more than [`PAGES`] different ones are in memory, however slowly they are read: who needs a
//! further one waits, and those who read are told to hurry.

use crate::http::Hurry;
use crate::telemetry::metrics::Form;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;

/// As many: one that is being read, and the next.
const PAGES: usize = 2;
/// Between two pages there is as much rest as the first took, so many times over; but no more than a scraper waits.
const REST: u32 = 19;
const LONGEST_REST: Duration = Duration::from_secs(2);

/// The page that was written last, and the room for the next ones.
#[derive(Debug)]
pub(super) struct Pages {
    latest: Arc<Mutex<Latest>>,
    room: Arc<Semaphore>,
    hurry: Hurry,
}

#[derive(Debug)]
struct Latest {
    page: Option<Page>,
    not_before: Instant,
}

#[derive(Debug)]
struct Page {
    form: Form,
    begun: Instant,
    text: Bytes,
}

/// A page's text, and its place in memory: free again when the last one has read it.
struct Placed {
    text: Box<[u8]>,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Pages {
    /// None yet. `hurry` is what those see who read.
    pub(super) fn new(hurry: Hurry) -> Self {
        let latest = Latest { page: None, not_before: Instant::now() };
        Self { latest: Arc::new(Mutex::new(latest)), room: Arc::new(Semaphore::new(PAGES)), hurry }
    }

    /// A page that was begun after now. An error where `write` panics.
    pub(super) async fn get(
        &self,
        form: Form,
        write: impl FnOnce() -> String + Send + 'static,
    ) -> Result<Bytes, JoinError> {
        let asked = Instant::now();
        let mut latest = Arc::clone(&self.latest).lock_owned().await;
        if let Some(page) = &latest.page
            && page.form == form
            && page.begun >= asked
        {
            // Whoever asked while another page was being written: this one was begun since.
            return Ok(page.text.clone());
        }
        // Nobody can get it any more: it is there for those alone who read it.
        latest.page = None;
        tokio::time::sleep_until(latest.not_before.into()).await;
        let place = self.place().await;
        // The lock goes along: who does not wait for his page has no second one begun beside it.
        tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let text = write().into_bytes().into_boxed_slice();
            let text = Bytes::from_owner(Placed { text, _place: place });
            let took = begun.elapsed();
            latest.not_before = begun + took + (took * REST).min(LONGEST_REST);
            latest.page = Some(Page { form, begun, text: text.clone() });
            text
        })
        .await
    }

    async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = Arc::clone(&self.room).try_acquire_owned() {
                return place;
            }
            let _waits = self.hurry.waits();
            // It is never closed.
            if let Ok(place) = Arc::clone(&self.room).acquire_owned().await {
                return place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_third_page_waits_until_one_is_read_and_has_those_hurry_who_read() {
        block_on(async {
            let hurry = Hurry::default();
            let pages = Arc::new(Pages::new(hurry.clone()));
            let first = pages.get(Form::Plain, || "first".to_owned()).await.unwrap();
            let second = pages.get(Form::OpenMetrics, || "second".to_owned()).await.unwrap();
            let (third, also) = ["third", "also"]
                .map(|text| {
                    let pages = Arc::clone(&pages);
                    tokio::spawn(async move { pages.get(Form::Plain, || text.to_owned()).await.unwrap() })
                })
                .into();
            while !hurry.is_on() {
                tokio::task::yield_now().await;
            }
            assert!(!third.is_finished() && !also.is_finished());
            // One of two readers of the same page is not all of them.
            let again = first.clone();
            drop(first);
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(hurry.is_on() && !third.is_finished());
            drop(again);
            let third = third.await.unwrap();
            assert!(!hurry.is_on());
            assert_eq!((second.as_ref(), third.as_ref()), (b"second".as_slice(), b"third".as_slice()));
            assert_eq!(also.await.unwrap().as_ptr(), third.as_ptr(), "one page for both");
        });
    }

    #[test]
    fn who_goes_away_takes_no_place_along_and_a_page_that_fails_neither() {
        block_on(async {
            let pages = Pages::new(Hurry::default());
            for _ in 0..2 * PAGES {
                let failed = pages.get(Form::Plain, || std::panic::panic_any("a fault")).await;
                assert!(failed.is_err_and(|error| error.is_panic()));
            }
            let held =
                [pages.get(Form::Plain, String::new).await, pages.get(Form::OpenMetrics, String::new).await];
            let gone =
                tokio::time::timeout(Duration::from_millis(20), pages.get(Form::Plain, String::new)).await;
            assert!(gone.is_err() && !pages.hurry.is_on());
            drop(held);
            assert_eq!(pages.get(Form::Plain, || "next".to_owned()).await.unwrap(), "next");
        });
    }
}
