#include "functions_library.h"

#if defined(__clang__)
#pragma clang diagnostic ignored "-Wc23-extensions"
#endif

// The parts of one library, in the order in which a local function must be known before it is called.
const char *kirie_functions_library(void) {
    static const char text[] = {
#embed "../Cluster/Resources/kirie/protocol.lua"
        ,
#embed "../Cluster/Resources/kirie/settings.lua"
        ,
#embed "../Cluster/Resources/kirie/calls.lua"
        ,
#embed "../Cluster/Resources/kirie/streams.lua"
        ,
#embed "../Cluster/Resources/kirie/tenants.lua"
        ,
#embed "../Cluster/Resources/kirie/images.lua"
        ,
#embed "../Cluster/Resources/kirie/jobs.lua"
        ,
#embed "../Cluster/Resources/kirie/encodes.lua"
        ,
#embed "../Cluster/Resources/kirie/work.lua"
        ,
#embed "../Cluster/Resources/kirie/housekeeping.lua"
        ,
#embed "../Cluster/Resources/kirie/functions/preparing.lua"
        ,
#embed "../Cluster/Resources/kirie/functions/submitting.lua"
        ,
#embed "../Cluster/Resources/kirie/functions/taking.lua"
        ,
#embed "../Cluster/Resources/kirie/functions/finishing.lua"
        ,
#embed "../Cluster/Resources/kirie/functions/dividing.lua"
        ,
#embed "../Cluster/Resources/kirie/functions/watching.lua"
        ,
#embed "../Cluster/Resources/kirie/functions/reclaiming.lua"
        ,
#embed "../Cluster/Resources/kirie/functions/demand.lua"
        ,
#embed "../Cluster/Resources/kirie/functions/room.lua"
        ,
#embed "../Cluster/Resources/kirie/functions/sharing.lua"
        , 0};
    return text;
}
