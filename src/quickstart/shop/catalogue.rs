//! What the shop sells, how it sends it, and what that costs. All amounts are minor units.

use std::collections::BTreeMap;

/// Prices, stock and rates.
#[derive(Clone, Debug)]
pub struct Catalogue {
    /// By item id.
    pub items: BTreeMap<String, Item>,
    /// How orders are sent, the cheapest first: it is chosen unless the buyer says otherwise.
    pub shipping: Vec<Shipping>,
    /// The currency of all prices: three lower-case letters.
    pub currency: String,
    /// Tax on items, in hundredths of a percent.
    pub tax_basis_points: u64,
}

/// Something for sale.
#[derive(Clone, Debug)]
pub struct Item {
    /// For people.
    pub name: String,
    /// Of one unit.
    pub price: u64,
    /// Units left.
    pub stock: u64,
}

/// A way to send an order.
#[derive(Clone, Debug)]
pub struct Shipping {
    /// Its `option_id`.
    pub id: String,
    /// For people.
    pub title: String,
    /// How long it takes, for people.
    pub description: String,
    /// What it costs.
    pub price: u64,
}

impl Default for Catalogue {
    fn default() -> Self {
        let item = |id: &str, name: &str, price, stock| {
            (id.to_owned(), Item { name: name.to_owned(), price, stock })
        };
        let shipping = |id: &str, title: &str, description: &str, price| Shipping {
            id: id.to_owned(),
            title: title.to_owned(),
            description: description.to_owned(),
            price,
        };
        Self {
            items: BTreeMap::from([
                item("item_lamp", "Walnut desk lamp", 7_900, 100_000),
                item("item_notebook", "Linen notebook", 1_250, 100_000),
                item("item_print", "Signed print, the last one", 4_500, 1),
                item("item_teapot", "Cast-iron teapot", 6_400, 0),
            ]),
            shipping: vec![
                shipping("ship_standard", "Standard", "Arrives in 4-5 days", 500),
                shipping("ship_express", "Express", "Arrives tomorrow", 1_500),
            ],
            currency: "usd".to_owned(),
            tax_basis_points: 800,
        }
    }
}

/// A line of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub item: String,
    pub name: String,
    pub price: u64,
    pub quantity: u64,
    /// Whether there are enough of it.
    pub in_stock: bool,
}

impl Line {
    pub(super) const fn amount(&self) -> u64 {
        self.price.saturating_mul(self.quantity)
    }
}

/// What an order costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    pub items: u64,
    pub tax: u64,
    pub shipping: Option<u64>,
    pub total: u64,
}

impl Catalogue {
    /// A line of this many, priced; `None` for an item that is not sold.
    pub(super) fn line(&self, id: &str, quantity: u64) -> Option<Line> {
        let item = self.items.get(id)?;
        Some(Line {
            item: id.to_owned(),
            name: item.name.clone(),
            price: item.price,
            quantity,
            in_stock: quantity <= item.stock,
        })
    }

    /// The lines of a request, or which member of it is wrong.
    pub(super) fn lines(&self, items: Vec<(String, u64)>) -> Result<Vec<Line>, String> {
        items
            .into_iter()
            .enumerate()
            .map(|(index, (id, quantity))| {
                self.line(&id, quantity).ok_or_else(|| format!("$.line_items[{index}].id"))
            })
            .collect()
    }

    pub(super) fn shipping(&self, id: &str) -> Option<&Shipping> {
        self.shipping.iter().find(|shipping| shipping.id == id)
    }

    /// Half a minor unit of tax or more is rounded up.
    pub(super) fn tax(&self, amount: u64) -> u64 {
        amount.saturating_mul(self.tax_basis_points).saturating_add(5_000) / 10_000
    }

    pub(super) fn totals(&self, lines: &[Line], shipping: Option<&str>) -> Totals {
        let items = lines.iter().map(Line::amount).fold(0, u64::saturating_add);
        let tax = self.tax(items);
        let shipping = shipping.and_then(|id| self.shipping(id)).map(|shipping| shipping.price);
        let total = items.saturating_add(tax).saturating_add(shipping.unwrap_or(0));
        Totals { items, tax, shipping, total }
    }

    /// Takes an order out of stock; `false`, and nothing taken, when something is missing.
    pub(super) fn take(&mut self, lines: &[Line]) -> bool {
        let mut left = self.items.clone();
        let enough = lines.iter().all(|line| {
            let item = left.get_mut(&line.item);
            item.is_some_and(|item| {
                item.stock.checked_sub(line.quantity).map(|rest| item.stock = rest).is_some()
            })
        });
        if enough {
            self.items = left;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_costs_its_items_tax_and_shipping() {
        let catalogue = Catalogue::default();
        let lines = [catalogue.line("item_lamp", 1).unwrap(), catalogue.line("item_notebook", 3).unwrap()];
        let expected = Totals { items: 11_650, tax: 932, shipping: Some(500), total: 13_082 };
        assert_eq!(catalogue.totals(&lines, Some("ship_standard")), expected);
        assert_eq!(catalogue.tax(6), 0, "0.48 is rounded down");
        assert_eq!(catalogue.tax(7), 1, "0.56 is rounded up");
    }

    #[test]
    fn stock_is_taken_for_the_whole_order_or_not_at_all() {
        let mut catalogue = Catalogue::default();
        let print = catalogue.line("item_print", 1).unwrap();
        let lamp = catalogue.line("item_lamp", 1).unwrap();
        assert!(!catalogue.take(&[lamp.clone(), print.clone(), print.clone()]));
        assert_eq!(catalogue.items["item_lamp"].stock, 100_000);
        assert!(catalogue.take(&[lamp, print]));
        assert!(!catalogue.line("item_print", 1).unwrap().in_stock);
    }
}
