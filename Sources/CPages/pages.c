#include "pages.h"

#if defined(__clang__)
#pragma clang diagnostic ignored "-Wc23-extensions"
#endif

static const unsigned char assets_api_js[] = {
#embed "../Gateway/Pages/assets/api.js"
};
static const unsigned char assets_appearance_js[] = {
#embed "../Gateway/Pages/assets/appearance.js"
};
static const unsigned char assets_charts_js[] = {
#embed "../Gateway/Pages/assets/charts.js"
};
static const unsigned char assets_docs_css[] = {
#embed "../Gateway/Pages/assets/docs.css"
};
static const unsigned char assets_docs_js[] = {
#embed "../Gateway/Pages/assets/docs.js"
};
static const unsigned char assets_exports_js[] = {
#embed "../Gateway/Pages/assets/exports.js"
};
static const unsigned char assets_favicon_svg[] = {
#embed "../Gateway/Pages/assets/favicon.svg"
};
static const unsigned char assets_gestures_js[] = {
#embed "../Gateway/Pages/assets/gestures.js"
};
static const unsigned char assets_icons_svg[] = {
#embed "../Gateway/Pages/assets/icons.svg"
};
static const unsigned char assets_intake_js[] = {
#embed "../Gateway/Pages/assets/intake.js"
};
static const unsigned char assets_keys_js[] = {
#embed "../Gateway/Pages/assets/keys.js"
};
static const unsigned char assets_language_js[] = {
#embed "../Gateway/Pages/assets/language.js"
};
static const unsigned char assets_main_js[] = {
#embed "../Gateway/Pages/assets/main.js"
};
static const unsigned char assets_manifest_webmanifest[] = {
#embed "../Gateway/Pages/assets/manifest.webmanifest"
};
static const unsigned char assets_monitor_css[] = {
#embed "../Gateway/Pages/assets/monitor.css"
};
static const unsigned char assets_monitor_js[] = {
#embed "../Gateway/Pages/assets/monitor.js"
};
static const unsigned char assets_notices_js[] = {
#embed "../Gateway/Pages/assets/notices.js"
};
static const unsigned char assets_objects_js[] = {
#embed "../Gateway/Pages/assets/objects.js"
};
static const unsigned char assets_ornament_svg[] = {
#embed "../Gateway/Pages/assets/ornament.svg"
};
static const unsigned char assets_outline_js[] = {
#embed "../Gateway/Pages/assets/outline.js"
};
static const unsigned char assets_page_css[] = {
#embed "../Gateway/Pages/assets/page.css"
};
static const unsigned char assets_panel_js[] = {
#embed "../Gateway/Pages/assets/panel.js"
};
static const unsigned char assets_paper_css[] = {
#embed "../Gateway/Pages/assets/paper.css"
};
static const unsigned char assets_picture_worker_js[] = {
#embed "../Gateway/Pages/assets/picture-worker.js"
};
static const unsigned char assets_picture_js[] = {
#embed "../Gateway/Pages/assets/picture.js"
};
static const unsigned char assets_png_js[] = {
#embed "../Gateway/Pages/assets/png.js"
};
static const unsigned char assets_prompts_js[] = {
#embed "../Gateway/Pages/assets/prompts.js"
};
static const unsigned char assets_rle_js[] = {
#embed "../Gateway/Pages/assets/rle.js"
};
static const unsigned char assets_segmenter_js[] = {
#embed "../Gateway/Pages/assets/segmenter.js"
};
static const unsigned char assets_session_js[] = {
#embed "../Gateway/Pages/assets/session.js"
};
static const unsigned char assets_share_js[] = {
#embed "../Gateway/Pages/assets/share.js"
};
static const unsigned char assets_stage_js[] = {
#embed "../Gateway/Pages/assets/stage.js"
};
static const unsigned char assets_texts_js[] = {
#embed "../Gateway/Pages/assets/texts.js"
};
static const unsigned char assets_view_js[] = {
#embed "../Gateway/Pages/assets/view.js"
};
static const unsigned char assets_washi_svg[] = {
#embed "../Gateway/Pages/assets/washi.svg"
};
static const unsigned char docs_html[] = {
#embed "../Gateway/Pages/docs.html"
};
static const unsigned char index_html[] = {
#embed "../Gateway/Pages/index.html"
};
static const unsigned char monitor_html[] = {
#embed "../Gateway/Pages/monitor.html"
};
static const unsigned char openapi_json[] = {
#embed "../Gateway/Pages/openapi.json"
};
static const unsigned char samples_paper_landscape_jpg[] = {
#embed "../Gateway/Pages/samples/paper-landscape.jpg"
};
static const unsigned char samples_samples_json[] = {
#embed "../Gateway/Pages/samples/samples.json"
};
static const unsigned char samples_still_life_jpg[] = {
#embed "../Gateway/Pages/samples/still-life.jpg"
};
static const unsigned char samples_tea_jpg[] = {
#embed "../Gateway/Pages/samples/tea.jpg"
};

static const struct kirie_page pages[] = {
    {"assets/api.js", assets_api_js, sizeof assets_api_js},
    {"assets/appearance.js", assets_appearance_js, sizeof assets_appearance_js},
    {"assets/charts.js", assets_charts_js, sizeof assets_charts_js},
    {"assets/docs.css", assets_docs_css, sizeof assets_docs_css},
    {"assets/docs.js", assets_docs_js, sizeof assets_docs_js},
    {"assets/exports.js", assets_exports_js, sizeof assets_exports_js},
    {"assets/favicon.svg", assets_favicon_svg, sizeof assets_favicon_svg},
    {"assets/gestures.js", assets_gestures_js, sizeof assets_gestures_js},
    {"assets/icons.svg", assets_icons_svg, sizeof assets_icons_svg},
    {"assets/intake.js", assets_intake_js, sizeof assets_intake_js},
    {"assets/keys.js", assets_keys_js, sizeof assets_keys_js},
    {"assets/language.js", assets_language_js, sizeof assets_language_js},
    {"assets/main.js", assets_main_js, sizeof assets_main_js},
    {"assets/manifest.webmanifest", assets_manifest_webmanifest, sizeof assets_manifest_webmanifest},
    {"assets/monitor.css", assets_monitor_css, sizeof assets_monitor_css},
    {"assets/monitor.js", assets_monitor_js, sizeof assets_monitor_js},
    {"assets/notices.js", assets_notices_js, sizeof assets_notices_js},
    {"assets/objects.js", assets_objects_js, sizeof assets_objects_js},
    {"assets/ornament.svg", assets_ornament_svg, sizeof assets_ornament_svg},
    {"assets/outline.js", assets_outline_js, sizeof assets_outline_js},
    {"assets/page.css", assets_page_css, sizeof assets_page_css},
    {"assets/panel.js", assets_panel_js, sizeof assets_panel_js},
    {"assets/paper.css", assets_paper_css, sizeof assets_paper_css},
    {"assets/picture-worker.js", assets_picture_worker_js, sizeof assets_picture_worker_js},
    {"assets/picture.js", assets_picture_js, sizeof assets_picture_js},
    {"assets/png.js", assets_png_js, sizeof assets_png_js},
    {"assets/prompts.js", assets_prompts_js, sizeof assets_prompts_js},
    {"assets/rle.js", assets_rle_js, sizeof assets_rle_js},
    {"assets/segmenter.js", assets_segmenter_js, sizeof assets_segmenter_js},
    {"assets/session.js", assets_session_js, sizeof assets_session_js},
    {"assets/share.js", assets_share_js, sizeof assets_share_js},
    {"assets/stage.js", assets_stage_js, sizeof assets_stage_js},
    {"assets/texts.js", assets_texts_js, sizeof assets_texts_js},
    {"assets/view.js", assets_view_js, sizeof assets_view_js},
    {"assets/washi.svg", assets_washi_svg, sizeof assets_washi_svg},
    {"docs.html", docs_html, sizeof docs_html},
    {"index.html", index_html, sizeof index_html},
    {"monitor.html", monitor_html, sizeof monitor_html},
    {"openapi.json", openapi_json, sizeof openapi_json},
    {"samples/paper-landscape.jpg", samples_paper_landscape_jpg, sizeof samples_paper_landscape_jpg},
    {"samples/samples.json", samples_samples_json, sizeof samples_samples_json},
    {"samples/still-life.jpg", samples_still_life_jpg, sizeof samples_still_life_jpg},
    {"samples/tea.jpg", samples_tea_jpg, sizeof samples_tea_jpg},
};

size_t kirie_page_count(void) { return sizeof pages / sizeof pages[0]; }

struct kirie_page kirie_page(size_t index) {
    if (index >= kirie_page_count()) {
        struct kirie_page none = {0};
        return none;
    }
    return pages[index];
}
