#ifndef KIRIE_KERNELS_H
#define KIRIE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#endif
