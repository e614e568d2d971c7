#include "pages.h"

#if defined(__clang__)
#pragma clang diagnostic ignored "-Wc23-extensions"
#endif

static const unsigned char openapi[] = {
#embed "../Gateway/Pages/openapi.json"
};

static const struct kirie_page pages[] = {
    {"openapi.json", openapi, sizeof openapi},
};

size_t kirie_page_count(void) { return sizeof pages / sizeof pages[0]; }

struct kirie_page kirie_page(size_t index) {
    if (index >= kirie_page_count()) {
        struct kirie_page none = {0};
        return none;
    }
    return pages[index];
}
