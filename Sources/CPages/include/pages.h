// The files of the gateway's pages, as they lie in Sources/Gateway/Pages.
#ifndef KIRIE_PAGES_H
#define KIRIE_PAGES_H

#include <stddef.h>

struct kirie_page {
    const char *name;            // below Pages, such as "assets/page.css"
    const unsigned char *bytes;  // not ended by a zero
    size_t size;
};

size_t kirie_page_count(void);

// A page of an index below the count; one without a name beyond it.
struct kirie_page kirie_page(size_t index);

#endif
