#include "functions_library.h"

#if defined(__clang__)
#pragma clang diagnostic ignored "-Wc23-extensions"
#endif

const char *kirie_functions_library(void) {
    static const char text[] = {
#embed "../Cluster/Resources/kirie.lua"
        , 0};
    return text;
}
