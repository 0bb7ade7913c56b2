//! The life of a token, cell by cell.
