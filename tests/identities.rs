//! Who gets in by which certificate, and who does not.
