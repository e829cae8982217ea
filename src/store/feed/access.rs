//! Where the directory stands: what was sent of it, and what is wanted.

/// The directory.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// The revision that was sent in this epoch.
    sent: Option<u64>,
    /// The revision that the primary was polled at since.
    polled: Option<u64>,
    pub(super) wanted: bool,
    pub(super) reading: bool,
    /// The database failed: until it answers a poll.
    pub(super) parked: bool,
}

impl Access {
    /// Nothing was sent yet, and it is to be read.
    pub(super) fn wanted() -> Self {
        Self {
            wanted: true,
            ..Self::default()
        }
    }

    /// Whether a directory was sent in this epoch.
    pub(super) fn is_sent(&self) -> bool {
        self.sent.is_some()
    }

    /// Takes up a hint.
    pub(super) fn hint(&mut self, revision: u64) {
        self.wanted |= self.sent.is_none_or(|sent| sent < revision);
    }

    /// Takes up the revision that the primary was polled at. Returns whether the directory must be read for it: one that went
    /// back is as good a reason as one that went on, for it is a restored copy.
    pub(super) fn note(&mut self, revision: u64) -> bool {
        self.polled = Some(revision);
        let is_other = self.sent != Some(revision);
        self.wanted |= is_other;
        is_other
    }

    /// Takes up the revision of a directory that was read. Returns whether it is to be sent: not if it was, nor if it is an
    /// earlier one that nobody but its reader speaks of.
    pub(super) fn take(&mut self, revision: u64) -> bool {
        let is_news = self.sent.is_none_or(|sent| {
            let went_back = self.polled.is_some_and(|polled| polled < sent);
            revision > sent || (revision < sent && went_back)
        });
        if is_news {
            (self.sent, self.polled) = (Some(revision), None);
        }
        is_news
    }

    /// Whether the directory was sent at this revision or later, or is not to be read again.
    pub(super) fn has(&self, revision: u64) -> bool {
        self.sent.is_some_and(|sent| sent >= revision) || !(self.wanted || self.reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(revision: u64) -> Access {
        let mut access = Access::wanted();
        assert!(access.take(revision));
        access
    }

    #[test]
    fn a_directory_is_sent_once_and_goes_on() {
        let mut access = sent(5);
        assert!(!access.take(5));
        assert!(access.take(6));
    }

    #[test]
    fn an_earlier_directory_is_not_sent_on_its_own_word() {
        let mut access = sent(5);
        assert!(!access.take(4));
        access.note(6);
        assert!(!access.take(4));
        assert!(access.take(6));
    }

    #[test]
    fn an_earlier_directory_is_sent_when_the_primary_went_back() {
        let mut access = sent(5);
        assert!(access.note(3));
        assert!(access.take(4), "it has gone on since");
        assert!(!access.take(3), "that was of the directory before");
    }
}
