//! The colours of the style sheet: text that people with weak eyes can read, in either mode (WCAG 2.2, 1.4.3 and 1.4.11).

use std::collections::BTreeMap;

use super::STYLE;

/// The colours of each mode by name.
fn modes() -> Vec<(String, BTreeMap<String, u32>)> {
    let roots = STYLE.split(":root {").skip(1);
    let mode = |block: &str| {
        let (block, _) = block.split_once('}').unwrap();
        let pairs = block.split(';').filter_map(|line| line.split_once(':'));
        let mut name = String::new();
        let mut colours = BTreeMap::new();
        for (key, value) in pairs {
            let value = value.trim();
            match key.trim().strip_prefix("--") {
                Some(key) => {
                    let hex = value.strip_prefix('#').filter(|hex| hex.len() == 6);
                    let hex = hex.unwrap_or_else(|| panic!("{key} is not #rrggbb: {value}"));
                    colours.insert(key.to_owned(), u32::from_str_radix(hex, 16).unwrap());
                }
                None => name = value.to_owned(),
            }
        }
        (name, colours)
    };
    roots.map(mode).collect()
}

/// Relative luminance (WCAG 2.2), from 0 to 1.
fn luminance(colour: u32) -> f64 {
    let channel = |shift: u32| {
        let c = f64::from(colour >> shift & 0xff) / 255.0;
        if c <= 0.040_45 {
            c / 12.92
        } else {
            ((c + 0.055) / 1.055).powf(2.4)
        }
    };
    0.2126 * channel(16) + 0.7152 * channel(8) + 0.0722 * channel(0)
}

fn contrast(one: u32, other: u32) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn text_and_marks_stand_out_in_both_modes() {
    assert!((contrast(0, 0xff_ff_ff) - 21.0).abs() < 0.01);
    let modes = modes();
    let names: Vec<&str> = modes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["light", "dark"]);
    for (mode, colours) in modes {
        // Text on what may lie behind it, then lines and marks that mean something.
        let text = ["text", "muted", "link", "danger"].map(|name| (name, 4.5));
        let marks = ["first", "second", "edge", "link", "danger"].map(|name| (name, 3.0));
        for (name, least) in text.iter().chain(&marks) {
            for behind in ["page", "soft"] {
                let ratio = contrast(colours[*name], colours[behind]);
                assert!(ratio >= *least, "{mode}: {name} on {behind} has {ratio:.2}");
            }
        }
        let ratio = contrast(colours["text"], colours["button"]);
        assert!(ratio >= 4.5, "{mode}: a button has {ratio:.2}");
        let ratio = contrast(colours["first"], colours["second"]);
        assert!(ratio >= 1.05, "{mode}: the bars have {ratio:.2}");
    }
}

#[test]
fn every_colour_is_one_of_those_that_are_checked() {
    let (_, rules) = STYLE.split_once("body {").unwrap();
    let names: Vec<String> = modes().remove(0).1.into_keys().collect();
    for declaration in rules.split(['{', '}', ';']) {
        let Some((property, value)) = declaration.split_once(':') else {
            continue;
        };
        let coloured = ["color", "background", "fill", "border", "outline"];
        if !coloured.iter().any(|p| property.trim().starts_with(p)) {
            continue;
        }
        assert!(
            !value.contains('#') && !value.contains("rgb"),
            "{declaration}"
        );
        for used in value.split("var(--").skip(1) {
            let used = used.split(')').next().unwrap();
            assert!(names.iter().any(|name| name == used), "{declaration}");
        }
    }
}
