// Types only: the library is loaded at run time, because the processor it is tuned for has to be chosen before its
// own initialisation runs. See Tensors/OpenBLAS.swift.
#include <cblas.h>
