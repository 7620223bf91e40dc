//! Values on an axis: units and round numbers.

use serde::Serialize;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    Bytes,
    Seconds,
    BitsPerSecond,
}

/// How values of a plot are written: the base unit's value times `factor`, in `name`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Unit {
    pub(super) name: &'static str,
    pub(super) factor: f64,
}

impl Quantity {
    /// The unit in which values up to `top` are small numbers.
    pub(super) fn unit(self, top: f64) -> Unit {
        let units: &[(f64, &'static str)] = match self {
            Self::Bytes => &[(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")],
            // Round trips are read in milliseconds, the longest beside the others.
            Self::Seconds => &[(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")],
            Self::BitsPerSecond => &[
                (1e9, "Gbit/s"),
                (1e6, "Mbit/s"),
                (1e3, "kbit/s"),
                (1.0, "bit/s"),
            ],
        };
        let fits = units.iter().find(|(size, name)| {
            let least = match *name {
                "ms" => 1.0,
                "s" | "Gbit/s" | "Mbit/s" | "kbit/s" => 1.5,
                _ => 2.0,
            };
            top >= least * size
        });
        let (size, name) = fits.or(units.last()).copied().unwrap_or((1.0, ""));
        Unit {
            name,
            factor: 1.0 / size,
        }
    }

    /// A value with its unit, three digits.
    pub(super) fn words(self, value: f64) -> String {
        let unit = self.unit(value);
        format!("{} {}", three_digits(value * unit.factor), unit.name)
    }
}

/// Three digits where there are as many.
pub(super) fn three_digits(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 99.95 || size == 0.0 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    // "-0" is no number that anybody wrote.
    if text == "-0" { "0".to_owned() } else { text }
}

/// Round numbers from 0 to `top`, about so many, with their texts.
pub(super) fn ticks(top: f64, about: f64) -> Vec<(f64, String)> {
    if !(top > 0.0 && top.is_finite()) {
        return vec![(0.0, "0".to_owned())];
    }
    let rough = top / about.max(1.0);
    let magnitude = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * magnitude);
    let step = steps.into_iter().find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * magnitude);
    let digits = (-step.log10().floor()).max(0.0) as usize;
    (0..)
        .map(|n| f64::from(n) * step)
        .take_while(|value| *value <= top * (1.0 + 1e-9))
        .map(|value| (value, format!("{value:.digits$}")))
        .collect()
}

/// 1, 2 and 5 times the powers of ten from `low` to `high`, with their texts.
pub(super) fn decades(low: f64, high: f64) -> Vec<(f64, String)> {
    if !(low > 0.0 && high.is_finite()) {
        return Vec::new();
    }
    let exponents = low.log10().floor() as i32..=high.log10().ceil() as i32;
    exponents
        .flat_map(|exponent| [1.0, 2.0, 5.0].map(|step| (step * 10f64.powi(exponent), exponent)))
        .filter(|(value, _)| (low..=high).contains(value))
        .map(|(value, exponent)| {
            let digits = usize::try_from(-exponent).unwrap_or(0);
            (value, format!("{value:.digits$}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_unit_that_fits() {
        for (quantity, value, words) in [
            (Quantity::Bytes, 125_000.0, "125 kB"),
            (Quantity::Bytes, 1_400.0, "1400 B"),
            (Quantity::Seconds, 0.0502, "50.2 ms"),
            (Quantity::Seconds, 12.0, "12.0 s"),
            (Quantity::Seconds, 0.000_21, "210 µs"),
            (Quantity::BitsPerSecond, 19_200_000.0, "19.2 Mbit/s"),
            (Quantity::BitsPerSecond, 0.0, "0 bit/s"),
        ] {
            assert_eq!(quantity.words(value), words);
        }
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let texts = |top, about| {
            let ticks = ticks(top, about).into_iter();
            ticks.map(|(_, text)| text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(texts(20.0, 4.0), "0 5 10 15 20");
        assert_eq!(texts(0.9, 4.0), "0.0 0.5");
        assert_eq!(texts(131.0, 4.0), "0 50 100");
        assert_eq!(texts(0.0, 4.0), "0");
        assert_eq!(texts(f64::INFINITY, 4.0), "0");
        let texts = |low, high| {
            let ticks = decades(low, high).into_iter();
            ticks.map(|(_, text)| text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(texts(0.3, 30.0), "0.5 1 2 5 10 20");
        assert_eq!(texts(0.0, 30.0), "");
    }
}
