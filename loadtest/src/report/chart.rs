//! A chart of latency distributions as SVG.
//!
//! Quantiles to the right, each step a tenth of what is left; milliseconds upwards, logarithmic.

use std::fmt::Write as _;

use super::Curve;
use crate::numbers::size;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 290.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// The last quantile drawn.
const LAST: f64 = 0.9999;
/// Distinguishable with the usual colour blindnesses, in order of use.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999"];

/// How far to the right a quantile stands: 0, 0.9, 0.99 … are equally far apart.
fn tens(quantile: f64) -> f64 {
    -(1.0 - quantile.min(LAST)).log10()
}

/// Draws curves, each under its name.
pub fn chart(title: &str, curves: &[(String, &Curve)]) -> String {
    let values = curves.iter().flat_map(|(_, curve)| curve.0.iter());
    let shown = values.filter(|(quantile, _)| *quantile <= LAST).map(|(_, millis)| millis.max(0.01));
    let (least, most) =
        shown.fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let (low, high) = (least.min(1.0).log10().floor(), most.max(1.0).log10().ceil());
    let x = |quantile: f64| LEFT + tens(quantile) / tens(LAST) * (WIDTH - LEFT - RIGHT);
    let y = |millis: f64| {
        HEIGHT - BOTTOM - (millis.max(0.01).log10() - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    let grid = "stroke=\"#ddd\"";
    for (quantile, name) in
        [(0.0, "0"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (LAST, "99.99 %")]
    {
        let (at, foot) = (x(quantile), HEIGHT - BOTTOM);
        let _ = writeln!(svg, "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{foot}\" {grid}/>");
        let _ =
            writeln!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>", foot + 18.0);
    }
    let mut power = low;
    while power <= high {
        let (at, right) = (y(10_f64.powf(power)), WIDTH - RIGHT);
        let _ = writeln!(svg, "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" {grid}/>");
        let label = 10_f64.powf(power);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label} ms</text>",
            LEFT - 6.0,
            at + 4.0
        );
        power += 1.0;
    }
    for ((name, curve), (place, colour)) in curves.iter().zip(COLOURS.iter().cycle().enumerate()) {
        let points = curve.0.iter().filter(|(quantile, _)| *quantile <= LAST);
        let points: Vec<String> =
            points.map(|(quantile, millis)| format!("{:.1},{:.1}", x(*quantile), y(*millis))).collect();
        let dashes = if place >= COLOURS.len() { " stroke-dasharray=\"5 3\"" } else { "" };
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
            points.join(" ")
        );
        let (from, line) = (WIDTH - RIGHT + 14.0, TOP + 8.0 + 18.0 * size(place));
        let _ = writeln!(
            svg,
            "<line x1=\"{from}\" y1=\"{line}\" x2=\"{}\" y2=\"{line}\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>\n\
             <text x=\"{}\" y=\"{}\" font-size=\"11\">{}</text>",
            from + 20.0,
            from + 26.0,
            line + 4.0,
            escaped(name)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slower_is_higher_and_rarer_is_further_right() {
        let curve = |factor: f64| Curve(vec![(0.0, factor), (0.5, 2.0 * factor), (0.99, 5.0 * factor)]);
        let (fast, slow) = (curve(0.2), curve(2.0));
        let svg = chart("a < b", &[("fast".to_owned(), &fast), ("slow".to_owned(), &slow)]);
        assert!(svg.contains("a &lt; b"));
        let lines: Vec<Vec<(f64, f64)>> = svg
            .split("points=\"")
            .skip(1)
            .map(|rest| {
                let pairs = rest.split('"').next().unwrap().split(' ');
                pairs
                    .map(|pair| {
                        let (x, y) = pair.split_once(',').unwrap();
                        (x.parse().unwrap(), y.parse().unwrap())
                    })
                    .collect()
            })
            .collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].iter().zip(&lines[1]).all(|(fast, slow)| fast.1 > slow.1 && fast.0 == slow.0));
        assert!(lines[0].windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1));
    }
}
