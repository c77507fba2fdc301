//! What tables of the admin page share: headings that sort by a link, without a script, and usage against a limit.

use maud::{Markup, html};

use super::pages::link;
use super::request::Fields;

/// By which column a table is sorted, as the query says.
#[derive(Clone, Copy)]
pub(crate) struct Sort<'a> {
    pub(crate) key: &'a str,
    pub(crate) down: bool,
}

impl<'a> Sort<'a> {
    pub(crate) fn of(query: &'a Fields) -> Self {
        Self {
            key: query.field("sort"),
            down: query.field("order") == "down",
        }
    }

    /// A heading: a link that sorts by its column, or turns the order around where it is sorted so already.
    pub(crate) fn head(self, path: &str, key: &str, name: &str, class: &str) -> Markup {
        let here = self.key == key;
        let order = if here && !self.down { "down" } else { "up" };
        let (state, arrow) = match (here, self.down) {
            (false, _) => (None, ""),
            (true, false) => (Some("ascending"), " \u{25b2}"),
            (true, true) => (Some("descending"), " \u{25bc}"),
        };
        html! {
            th class=(class) aria-sort=[state] {
                a href=(link(path, &[("sort", key), ("order", order)])) { (name) (arrow) }
            }
        }
    }

    /// In this order.
    pub(crate) fn apply(self, ascending: std::cmp::Ordering) -> std::cmp::Ordering {
        if self.down {
            ascending.reverse()
        } else {
            ascending
        }
    }
}

/// A row that says how much is used of a limit.
pub(crate) fn usage(name: &str, used: u64, limit: u64, text: impl Fn(u64) -> String) -> Markup {
    let percent = match (used, limit) {
        (0, _) => 0,
        (_, 0) => 100,
        (used, limit) => u128::from(used) * 100 / u128::from(limit),
    };
    // Of the bar: beyond the limit it is full.
    let part = percent.min(100);
    html! {
        tr {
            th scope="row" { (name) }
            td {
                (text(used)) " of " (text(limit)) " (" (percent) " %)"
                meter min="0" max="100" high="80" optimum="0" value=(part) aria-label=(name) {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_told_beyond_a_limit_and_without_one() {
        for (used, limit, says) in [
            (0, 0, "0 of 0 (0 %)"),
            (1, 0, "1 of 0 (100 %)"),
            (1, 3, "1 of 3 (33 %)"),
            (7, 3, "7 of 3 (233 %)"),
            (u64::MAX, u64::MAX, "(100 %)"),
        ] {
            let row = usage("x", used, limit, |n| n.to_string()).into_string();
            assert!(row.contains(says), "{row}");
        }
        let over = usage("x", 7, 3, |n| n.to_string()).into_string();
        assert!(over.contains("value=\"100\""), "{over}");
    }
}
