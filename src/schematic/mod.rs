//! The customization model and its canonical YAML.
