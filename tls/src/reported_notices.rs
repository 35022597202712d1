//! Notices about certificates and lists: those that were reported, and those that are due.

use std::collections::HashMap;

use crate::dated_item::{DatedItem, DatedKind};
use crate::expiry::{ExpiryStage, next_notice};
use crate::identity::Fingerprint;

/// The last reported notice of each certificate and list.
#[derive(Debug, Default)]
pub struct ReportedNotices(HashMap<(DatedKind, Fingerprint), ExpiryStage>);

/// Notices that are due, and the time of the next one.
#[derive(Debug)]
pub struct DueNotices {
    /// Those that end first come first.
    pub due: Vec<(DatedItem, ExpiryStage)>,
    /// In seconds of Unix time; `None` if nothing ends.
    pub next: Option<u64>,
}

impl ReportedNotices {
    /// Returns the notices that are due, and counts them as reported. Only what is in `items` is
    /// remembered.
    pub fn take_due(&mut self, items: Vec<DatedItem>, now: u64) -> DueNotices {
        let former = std::mem::take(&mut self.0);
        let (mut due, mut next) = (Vec::new(), None::<u64>);
        for item in items {
            let key = (item.kind, item.fingerprint);
            // The same certificate may be in a file twice.
            let mut said = self.0.get(&key).or_else(|| former.get(&key)).copied();
            let mut notice = next_notice(item.lifetime, now, said);
            if notice.at <= now {
                said = Some(notice.stage);
                due.push((item.clone(), notice.stage));
                notice = next_notice(item.lifetime, now, said);
            }
            if let Some(said) = said {
                self.0.insert(key, said);
            }
            next = Some(next.map_or(notice.at, |next| next.min(notice.at)));
        }
        due.sort_by_key(|(item, _)| item.lifetime.end());
        DueNotices { due, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::Lifetime;
    use crate::files::SettingsFile;

    const DAY: u64 = 24 * 60 * 60;

    /// Items of 90 days.
    fn items() -> Vec<DatedItem> {
        let kinds = [DatedKind::ServerCertificate, DatedKind::ClientAuthority];
        let item = |kind| DatedItem {
            kind,
            file: SettingsFile::Certificate,
            subject: "CN=one".to_owned(),
            lifetime: Lifetime::new(0, 90 * DAY),
            fingerprint: Fingerprint::of(b"one"),
            advice: "renew it",
        };
        kinds.map(item).to_vec()
    }

    fn stages(due: &DueNotices) -> Vec<ExpiryStage> {
        due.due.iter().map(|(_, stage)| *stage).collect()
    }

    #[test]
    fn a_reload_with_the_same_files_repeats_nothing() {
        let items = items();
        let mut told = ReportedNotices::default();
        let early = told.take_due(items.clone(), DAY);
        assert_eq!((stages(&early), early.next), (vec![], Some(60 * DAY)));
        let first = told.take_due(items.clone(), 70 * DAY);
        assert_eq!(stages(&first), vec![ExpiryStage::LastThird; items.len()]);
        assert_eq!(first.next, Some(83 * DAY));
        let again = told.take_due(items.clone(), 70 * DAY + 5);
        assert_eq!((stages(&again), again.next), (vec![], Some(83 * DAY)));
        let ended = told.take_due(items.clone(), 90 * DAY);
        assert_eq!(stages(&ended), vec![ExpiryStage::Ended(0); items.len()]);
        assert_eq!(ended.next, Some(91 * DAY), "once a day from then on");
    }

    #[test]
    fn only_what_is_in_force_is_remembered_and_a_duplicate_is_told_once() {
        let items = items();
        let mut told = ReportedNotices::default();
        let twice = [items.clone(), items.clone()].concat();
        assert_eq!(told.take_due(twice, 70 * DAY).due.len(), items.len());
        assert_eq!(told.0.len(), items.len());
        assert_eq!(told.take_due(Vec::new(), 70 * DAY).next, None);
        assert!(told.0.is_empty());
    }
}
