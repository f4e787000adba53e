//! The latency distributions as a picture: for each scene the share of all starts that were placed by then, over a
//! logarithmic axis of time. A curve that ends below 100 % is a contender that missed some, or was late.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

use super::duel::{Row, Scene};
use super::peer::Who;
use super::process::Priority;

/// Size of the picture.
const SIZE: (u32, u32) = (960, 1200);

/// Microseconds at the ends of the axis; beyond the last figure there is room for the legend.
const RANGE: std::ops::Range<f64> = 5.0..2_000_000_000.0;

/// Where every curve ends.
const EDGE: f64 = 20_000_000.0;

/// Steps of a curve: enough for a percentile each, few enough for a small file.
const STEPS: usize = 200;

const FONT: &str = "sans-serif";

/// Draws the rows that place.
pub(super) fn draw(file: &Path, rows: &[Row], title: &str) -> Result<()> {
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    }
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    painted(&root, rows, title).map_err(|error| anyhow!("drawing {}: {error}", file.display()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Painted<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn painted<'a>(root: &Area<'a>, rows: &[Row], title: &str) -> Painted<'a> {
    root.fill(&WHITE)?;
    let root = root.titled(title, (FONT, 15))?;
    let scenes = [Scene::Lone, Scene::Short, Scene::Crowd];
    for (area, scene) in root.split_evenly((scenes.len(), 1)).iter().zip(scenes) {
        panel(area, rows, scene)?;
    }
    root.present()
}

fn panel<'a>(area: &Area<'a>, rows: &[Row], scene: Scene) -> Painted<'a> {
    let mut chart = ChartBuilder::on(area)
        .caption(scene.name(), (FONT, 18))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(RANGE.log_scale(), 0.0..100.0)?;
    chart
        .configure_mesh()
        .x_desc("from the exec to the placement")
        .y_desc("% of all starts")
        .x_labels(8)
        .x_label_formatter(&|us| time(*us))
        .light_line_style(WHITE)
        .draw()?;
    for row in rows.iter().filter(|row| row.scene == scene && row.who.places()) {
        let style = style(row.who, row.priority);
        chart
            .draw_series(LineSeries::new(curve(&row.all_placed_us, row.starts), style))?
            .label(format!("{}, {}", row.who.name(), row.priority.name()))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .border_style(BLACK)
        .label_font((FONT, 12))
        .draw()
}

/// A colour each contender; the normal priority is the thin line.
fn style(who: Who, priority: Priority) -> ShapeStyle {
    let colour = match who {
        Who::Ours => RGBColor(0, 114, 178),
        Who::Cgrulesengd => RGBColor(213, 94, 0),
        Who::Execsnoop => RGBColor(120, 120, 120),
        Who::Scan(ms) if ms < 1_000 => RGBColor(0, 158, 115),
        Who::Scan(_) => RGBColor(204, 121, 167),
    };
    colour.stroke_width(match priority {
        Priority::Normal => 1,
        Priority::Fifo => 3,
    })
}

/// Time and share of all starts, rising.
fn curve(placed_us: &[f64], starts: usize) -> Vec<(f64, f64)> {
    let mut sorted = placed_us.to_vec();
    sorted.sort_by(f64::total_cmp);
    let step = sorted.len().div_ceil(STEPS).max(1);
    let last = sorted.len().saturating_sub(1);
    let points = sorted.iter().enumerate();
    let kept = points.filter(|(index, _)| index % step == 0 || *index == last);
    let share = |index: usize| (index + 1) as f64 * 100.0 / starts as f64;
    let mut curve: Vec<_> = kept
        .map(|(index, us)| (us.clamp(RANGE.start, EDGE), share(index)))
        .collect();
    // To the edge, so that what stays below 100 % is seen to stay there.
    curve.extend(curve.last().map(|(_, share)| (EDGE, *share)));
    curve
}

fn time(us: f64) -> String {
    if us < 1e3 {
        format!("{us:.0} µs")
    } else if us < 1e6 {
        format!("{:.0} ms", us / 1e3)
    } else {
        format!("{:.0} s", us / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_rises_to_the_share_that_was_placed_and_stays_there() {
        let curve = curve(&[30.0, 10.0, 20.0], 4);
        assert_eq!(curve, [(10.0, 25.0), (20.0, 50.0), (30.0, 75.0), (EDGE, 75.0)]);
    }

    #[test]
    fn a_long_curve_keeps_its_ends() {
        let figures: Vec<f64> = (1..=5_000).map(|us| f64::from(us) + 10.0).collect();
        let curve = curve(&figures, 5_000);
        assert!(curve.len() < STEPS + 3);
        assert_eq!(curve.first().map(|(us, _)| *us), Some(11.0));
        assert_eq!(curve.last().map(|(_, share)| *share), Some(100.0));
    }

    #[test]
    fn nothing_placed_draws_nothing() {
        assert!(curve(&[], 4).is_empty());
    }

    #[test]
    fn times_have_their_unit() {
        assert_eq!([time(50.0), time(1e4), time(1e7)], ["50 µs", "10 ms", "10 s"]);
    }
}
