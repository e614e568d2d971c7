#pragma once

/// The text of the cluster's protocol, the parts in `Sources/Cluster/Resources/kirie` one after the other, as they stood
/// when this was built: a C string.
///
/// A C file can take a file in as it is (C23's #embed). The package manager's own way, an array literal of Swift, took the
/// compiler forty seconds.
const char *kirie_functions_library(void);
