//! What stands before the instances.

use crate::instance::Person;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, header};
use axum::routing::get;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tower::ServiceExt;

/// Takes the instances in turn.
pub(crate) struct RoundRobin {
    /// Without tokens, and with.
    instances: [[Router; 2]; 2],
    turn: AtomicUsize,
    page: String,
}

impl RoundRobin {
    pub(crate) fn new(instances: [[Router; 2]; 2], page: String) -> Self {
        Self { instances, turn: AtomicUsize::new(0), page }
    }

    pub(crate) fn app(self) -> Router {
        let page = self.page.clone();
        let page = get(move || async move { ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page) });
        Router::new().route("/", page).fallback(Self::pass).with_state(Arc::new(self))
    }

    async fn pass(State(it): State<Arc<Self>>, mut request: Request<Body>) -> Response<Body> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let asked = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(own, _)| *own == name).map_or_else(String::new, |(_, value)| value.to_owned())
        };
        let (person, tokens) = (asked("person"), asked("tokens"));
        let [even, odd] = &it.instances;
        let instance = if it.turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { even } else { odd };
        let [without, with] = instance;
        request.extensions_mut().insert(Person(person));
        let app = if tokens == "off" { without } else { with };
        match app.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
