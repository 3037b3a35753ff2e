// SPDX-License-Identifier: Apache-2.0
//! A table of figures: on the terminal, and in a file that `scripts/router.sh` may put into the documentation.

use std::fmt::Write;

/// Rows of numbers with a label.
pub struct Table {
    /// The name of the file, and of the place in the documentation.
    name: &'static str,
    text: String,
}

impl Table {
    /// `columns` are the names of the columns behind the labels, with ` | ` in between.
    pub fn new(name: &'static str, columns: &str) -> Table {
        let dashes = " --- |".repeat(columns.split('|').count() + 1);
        Table { name, text: format!("|  | {columns} |\n|{dashes}\n") }
    }

    /// A row with one number.
    pub fn add(&mut self, label: &str, value: f64) {
        self.row(label, &[value]);
    }

    pub fn row(&mut self, label: &str, values: &[f64]) {
        let values: Vec<String> = values.iter().map(|value| number(*value)).collect();
        let line = format!("| {label} | {} |", values.join(" | "));
        println!("{line}");
        writeln!(self.text, "{line}").expect("a line in memory");
    }

    /// Writes the file, next to the machine's.
    pub fn write(self) {
        let kit = super::kit().expect("the folder of the machine");
        let folder = kit.join("tables");
        std::fs::create_dir_all(&folder).expect("make a folder for tables");
        std::fs::write(folder.join(self.name), self.text).expect("write a table");
    }
}

/// Three digits, as in the other tables; thousands have a comma. A dash for what is not known (NaN).
fn number(value: f64) -> String {
    match value.abs() {
        unknown if unknown.is_nan() => "–".into(),
        big if big >= 1000.0 => {
            let whole = format!("{value:.0}");
            let (thousands, rest) = whole.split_at(whole.len() - 3);
            format!("{thousands},{rest}")
        }
        big if big >= 100.0 => format!("{value:.0}"),
        big if big >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
