//! System descriptions: parse, check, and turn into the complete list of kernel objects and capabilities.
