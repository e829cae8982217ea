//! Tables as `docs/performance.md` has them, ready to be pasted.

/// Prints a table.
pub fn print(title: &str, head: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    println!("\n{title}\n");
    println!("{}", line(&widths, head.iter().copied()));
    let rule: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
    println!("{}", line(&widths, rule.iter().map(String::as_str)));
    for row in rows {
        println!("{}", line(&widths, row.iter().map(String::as_str)));
    }
}

fn line<'a>(widths: &[usize], cells: impl Iterator<Item = &'a str>) -> String {
    let cells = widths
        .iter()
        .zip(cells)
        .map(|(width, cell)| format!(" {cell:width$} |"));
    format!("|{}", cells.collect::<String>())
}

/// A whole number with spaces between the thousands.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
