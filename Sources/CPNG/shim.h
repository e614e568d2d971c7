#include <png.h>
// libpng's own inflater: its header and library come with those of libpng.
#include <zlib.h>
