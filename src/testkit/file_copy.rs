//! File-system copies of a node, as people restore a machine from them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::testkit::replication::empty;
use crate::testkit::template::copy_folder;
use crate::testkit::{Node, TestkitError};

/// What a node had on its disk at one moment. It goes with the cluster's folder.
#[derive(Debug, Clone)]
pub struct FileCopy {
    folder: PathBuf,
}

impl Node {
    /// Copies this node's files. A running node is stopped before, and left down.
    ///
    /// # Errors
    ///
    /// If the node does not stop, or the files cannot be copied.
    ///
    /// # Cancellation
    ///
    /// The node is left down, perhaps with half a copy beside it.
    pub async fn copy_files(&self) -> Result<FileCopy, TestkitError> {
        static COPIES: AtomicUsize = AtomicUsize::new(0);
        self.stop().await?;
        let number = COPIES.fetch_add(1, Ordering::Relaxed);
        let copy = FileCopy { folder: self.data().with_extension(format!("copy{number}")) };
        copy_folder(self.data(), &copy.folder, self.user())?;
        Ok(copy)
    }

    /// Puts an older copy in the place of this node's files and starts it: the same cluster on the same timeline, without
    /// what was written since.
    ///
    /// # Errors
    ///
    /// If the files cannot be copied, or the node does not start.
    ///
    /// # Cancellation
    ///
    /// The node is left down with half its data; setting it back again mends it.
    pub async fn set_back(&self, copy: &FileCopy) -> Result<(), TestkitError> {
        self.kill().await?;
        empty(self.data())?;
        copy_folder(&copy.folder, self.data(), self.user())?;
        self.start().await
    }
}
