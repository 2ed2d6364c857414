//! Order and reach in the graph of stacks, and which instances a change affects.
