//! Scripts: by their hash, and by their text where the server has lost it.

use super::node::Node;
use crate::tier::TierError;
use redis::{ErrorKind, Pipeline, Script, ServerErrorKind, Value};

/// A Lua script with its hash.
pub(crate) struct Lua {
    text: &'static str,
    hash: String,
}

/// One run of a script.
#[derive(Debug, Default)]
pub(crate) struct Call<'a> {
    pub(crate) keys: Vec<String>,
    pub(crate) args: Vec<&'a [u8]>,
}

/// The most runs, and about the most bytes, that are sent before the answers are waited for: all that travels on the
/// connection waits behind them, and the answers must come within the time-out.
const PIPELINED_MAX: usize = 64;
const PIPELINED_BYTES_MAX: usize = 1 << 20;

impl Lua {
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text, hash: Script::new(text).get_hash().to_owned() }
    }

    pub(super) fn add(&self, pipeline: &mut Pipeline, call: &Call<'_>, by_text: bool) {
        let run = if by_text { pipeline.cmd("EVAL").arg(self.text) } else { pipeline.cmd("EVALSHA").arg(&self.hash) };
        run.arg(call.keys.len()).arg(&call.keys).arg(&call.args);
    }
}

impl Node {
    /// Runs a script once for each call, in order, and returns what each returned: the errors of the server are among
    /// the values. Dropped, any number of the runs may have happened.
    pub(super) async fn run(&self, script: &Lua, calls: &[&Call<'_>]) -> Result<Vec<Value>, TierError> {
        let mut values = Vec::with_capacity(calls.len());
        for calls in batches(calls) {
            let mut pipeline = redis::pipe();
            calls.iter().for_each(|call| script.add(&mut pipeline, call, false));
            let mut answers = self.requests(&mut pipeline).await?;
            let lost = |answer: &Value| is_server_error(answer, ServerErrorKind::NoScript);
            if answers.iter().any(lost) {
                let mut again = redis::pipe();
                let unrun = calls.iter().zip(&answers).filter(|(_, answer)| lost(answer));
                unrun.for_each(|(call, _)| script.add(&mut again, call, true));
                let anew = self.requests(&mut again).await?;
                answers.iter_mut().filter(|answer| lost(answer)).zip(anew).for_each(|(old, new)| *old = new);
            }
            values.append(&mut answers);
        }
        Ok(values)
    }
}

/// The calls in the same order, as many at a time as may be sent together; a call that is larger goes alone.
fn batches<'a, 'b>(mut calls: &'b [&'a Call<'a>]) -> impl Iterator<Item = &'b [&'a Call<'a>]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = calls.iter().take(PIPELINED_MAX).take_while(|call| {
            bytes += call.args.iter().map(|arg| arg.len()).sum::<usize>();
            bytes <= PIPELINED_BYTES_MAX
        });
        let (batch, rest) = calls.split_at_checked(fits.count().max(1))?;
        calls = rest;
        Some(batch)
    })
}

impl std::fmt::Debug for Lua {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lua").field(&self.hash).finish()
    }
}

fn is_server_error(value: &Value, kind: ServerErrorKind) -> bool {
    matches!(value, Value::ServerError(error) if ErrorKind::from(kind) == redis::RedisError::from(error.clone()).kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_in_number_and_bytes() {
        let sizes = |lengths: &[usize]| {
            let bytes = vec![0; 2 << 20];
            let call = |length: &usize| Call { keys: Vec::new(), args: vec![bytes.get(..*length).unwrap()] };
            let calls: Vec<_> = lengths.iter().map(call).collect();
            batches(&calls.iter().collect::<Vec<_>>()).map(<[_]>::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[]), Vec::<usize>::new());
        assert_eq!(sizes(&[1; 130]), [64, 64, 2]);
        assert_eq!(sizes(&[600_000, 400_000, 100_000, 2 << 20, 1]), [2, 1, 1, 1]);
    }
}
