#include "kirie_kernels.h"
