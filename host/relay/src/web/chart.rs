//! Charts of the last day as SVG files of their own: no script, no style, nothing of a user in them.

use maud::{Markup, html};

use crate::admin::show;
use crate::history::Sample;

/// The time that a chart shows.
const SPAN_MS: u64 = 24 * 3_600_000;
/// Columns of a chart: a quarter of an hour each.
const COLUMNS: usize = 96;
const COLUMN_MS: u64 = SPAN_MS / COLUMNS as u64;

/// The picture in units; a column is eight wide.
const LEFT: usize = 80;
const TOP: usize = 40;
const WIDTH: usize = COLUMNS * 8;
const HEIGHT: usize = 160;

/// Two colours that the colour-blind can tell apart.
const FIRST: &str = "#1f6fb5";
const SECOND: &str = "#d95f02";

/// Messages stored and delivered in each quarter of an hour.
pub(crate) fn traffic(samples: &[Sample]) -> Markup {
    let stored = increase(samples, |sample| sample.stored);
    let delivered = increase(samples, |sample| sample.delivered);
    let top = stored.iter().chain(&delivered).copied().max().unwrap_or(0);
    let title = format!(
        "Traffic of the last day: {} messages stored, {} delivered",
        stored.iter().sum::<u64>(),
        delivered.iter().sum::<u64>()
    );
    let bars = html! {
        @for (column, (stored, delivered)) in stored.iter().zip(&delivered).enumerate() {
            (bar(column, 0, *stored, top, FIRST))
            (bar(column, 4, *delivered, top, SECOND))
        }
    };
    let legend = html! {
        rect x=(LEFT) y="12" width="12" height="12" fill=(FIRST) {}
        text x=(LEFT + 18) y="22" { "stored" }
        rect x=(LEFT + 90) y="12" width="12" height="12" fill=(SECOND) {}
        text x=(LEFT + 108) y="22" { "delivered" }
    };
    frame(&title, &top.to_string(), &html! { (legend) (bars) })
}

/// Size of the database at the end of each quarter of an hour.
pub(crate) fn storage(samples: &[Sample]) -> Markup {
    let sizes = last(samples, |sample| sample.database_bytes);
    let top = sizes.iter().copied().max().unwrap_or(0);
    let now = sizes.last().copied().unwrap_or(0);
    let title = format!(
        "Size of the database during the last day: {} now",
        show::size(now)
    );
    let bars = html! {
        @for (column, size) in sizes.iter().enumerate() {
            (bar(column, 0, *size, top, FIRST))
            (bar(column, 4, *size, top, FIRST))
        }
    };
    frame(&title, &show::size(top), &bars)
}

fn frame(title: &str, top: &str, inside: &Markup) -> Markup {
    let (width, height) = (LEFT + WIDTH + 20, TOP + HEIGHT + 30);
    let base = TOP + HEIGHT;
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {width} {height}")) role="img"
            font-family="sans-serif" font-size="12" fill="#333333" {
            title { (title) }
            rect width=(width) height=(height) fill="#ffffff" {}
            line x1=(LEFT) y1=(TOP) x2=(LEFT + WIDTH) y2=(TOP) stroke="#cccccc" {}
            text x=(LEFT - 6) y=(TOP + 4) text-anchor="end" { (top) }
            text x=(LEFT - 6) y=(base + 4) text-anchor="end" { "0" }
            (inside)
            line x1=(LEFT) y1=(base) x2=(LEFT + WIDTH) y2=(base) stroke="#333333" {}
            @for hours in [24, 18, 12, 6] {
                text x=(LEFT + WIDTH * (24 - hours) / 24) y=(base + 18) { (hours) " h ago" }
            }
            text x=(LEFT + WIDTH) y=(base + 18) text-anchor="end" { "now" }
        }
    }
}

fn bar(column: usize, shift: usize, value: u64, top: u64, colour: &str) -> Markup {
    if value == 0 || top == 0 {
        return Markup::default();
    }
    // At least a line: something is more than nothing.
    let height = u128::from(value) * HEIGHT as u128 / u128::from(top);
    let height = usize::try_from(height).unwrap_or(HEIGHT).clamp(1, HEIGHT);
    html! {
        rect x=(LEFT + column * 8 + shift) y=(TOP + HEIGHT - height) width="4" height=(height) fill=(colour) {}
    }
}

/// The column that a sample belongs to, the last one being now.
fn column(sample: &Sample, now_ms: u64) -> Option<usize> {
    let age = now_ms.saturating_sub(sample.uptime_ms);
    let back = usize::try_from(age / COLUMN_MS).ok()?;
    (COLUMNS - 1).checked_sub(back)
}

/// By how much a counter grew in each column.
fn increase(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> Vec<u64> {
    let mut columns = vec![0; COLUMNS];
    let now_ms = samples.last().map_or(0, |sample| sample.uptime_ms);
    for pair in samples.windows(2) {
        if let Some(at) = column(&pair[1], now_ms) {
            columns[at] += of(&pair[1]).saturating_sub(of(&pair[0]));
        }
    }
    columns
}

/// The last value in each column; a column without a sample shows the one before.
fn last(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> Vec<u64> {
    let now_ms = samples.last().map_or(0, |sample| sample.uptime_ms);
    let mut columns = vec![None; COLUMNS];
    for sample in samples {
        if let Some(at) = column(sample, now_ms) {
            columns[at] = Some(of(sample));
        }
    }
    let mut before = 0;
    let filled = columns.into_iter().map(|value| {
        before = value.unwrap_or(before);
        before
    });
    filled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_fall_into_the_columns_of_the_last_day() {
        let sample = |minutes: u64, stored, database_bytes| Sample {
            uptime_ms: minutes * 60_000,
            stored,
            delivered: stored / 2,
            database_bytes,
        };
        let now = 3 * 24 * 60;
        let samples = [
            sample(now - 1500, 5, 10),
            sample(now - 1400, 7, 20),
            sample(now - 16, 10, 30),
            sample(now - 14, 14, 40),
            sample(now, 15, 50),
        ];
        let stored = increase(&samples, |sample| sample.stored);
        assert_eq!((stored[95], stored[94], stored[2]), (5, 3, 2));
        assert_eq!(stored.iter().sum::<u64>(), 10, "not what came earlier");
        let sizes = last(&samples, |sample| sample.database_bytes);
        assert_eq!(
            (sizes[0], sizes[2], sizes[93], sizes[94], sizes[95]),
            (0, 20, 20, 30, 50)
        );
        let text = traffic(&samples).into_string();
        assert!(text.contains("10 messages stored, 5 delivered"), "{text}");
        let tallest = format!("height=\"{HEIGHT}\" fill=\"{FIRST}\"");
        assert_eq!(text.matches(&tallest).count(), 1);
        assert!(!text.contains("style") && !text.contains("script"));
        storage(&[]);
        assert!(!traffic(&[]).into_string().contains("y=\"NaN"));
    }
}
