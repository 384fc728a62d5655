//! The Node.js module: the room `binding` of the core, linked as a library that Node.js can load. Nothing else is here.

// What it exports registers itself when the module is loaded; nothing has to be named.
extern crate provision_vm as _;
