// A plugin in plain C that uses nothing but ipc/plugin_abi.h. As it stands it is a good one, whose driver carries
// nothing; each TEST_… macro of CMakeLists.txt spoils one thing that a host must notice.
#include <stdio.h>
#include <stdlib.h>

#include "ipc/plugin_abi.h"

#ifndef TEST_SYMBOL
#define TEST_SYMBOL cdmf_plugin_v1
#endif
#ifndef TEST_MAGIC
#define TEST_MAGIC CDMF_PLUGIN_MAGIC
#endif
#ifndef TEST_STRUCT_SIZE
#define TEST_STRUCT_SIZE sizeof(cdmf_plugin)
#endif
#ifndef TEST_ABI_MAJOR
#define TEST_ABI_MAJOR CDMF_ABI_MAJOR
#endif
#ifndef TEST_MIN_HOST_MINOR
#define TEST_MIN_HOST_MINOR 0
#endif
#ifndef TEST_BUILD_FLAGS
#define TEST_BUILD_FLAGS 0
#endif
#ifndef TEST_SUMMARY
#define TEST_SUMMARY "Carries nothing."
#endif
#ifndef TEST_CAPABILITIES
#define TEST_CAPABILITIES 0
#endif
#ifndef TEST_CREATE
#define TEST_CREATE create
#endif

#define EXPORTED __attribute__((visibility("default"), used))

// ---- A driver that is there and does nothing
// --------------------------------------------------------------------------

static cdmf_status driver_open(void* self, cdmf_error* error) {
  (void)self;
  snprintf(error->message, sizeof error->message, "this transport carries nothing");
  return CDMF_UNSUPPORTED;
}
static cdmf_status driver_attach(void* self, uint64_t deadline, cdmf_peer* peer, cdmf_error* error) {
  (void)self, (void)deadline, (void)peer, (void)error;
  return CDMF_UNSUPPORTED;
}
static cdmf_status driver_claim(void* self, cdmf_peer peer, size_t size, cdmf_loan* loan) {
  (void)self, (void)peer, (void)size, (void)loan;
  return CDMF_NOT_CONNECTED;
}
static cdmf_status driver_commit(void* self, const cdmf_loan* loan, size_t size, uint32_t flush) {
  (void)self, (void)loan, (void)size, (void)flush;
  return CDMF_NOT_CONNECTED;
}
static void driver_abort(void* self, const cdmf_loan* loan) { (void)self, (void)loan; }
static cdmf_status driver_flush(void* self, cdmf_peer peer, uint64_t deadline) {
  (void)self, (void)peer, (void)deadline;
  return CDMF_OK;
}
static cdmf_status driver_await_space(void* self, cdmf_peer peer, size_t size, uint64_t deadline) {
  (void)self, (void)peer, (void)size, (void)deadline;
  return CDMF_NOT_CONNECTED;
}
static size_t driver_receive_burst(void* self, cdmf_view* views, size_t capacity) {
  (void)self, (void)views, (void)capacity;
  return 0;
}
static void driver_release_burst(void* self) { (void)self; }
static cdmf_status driver_await_messages(void* self, uint64_t deadline) {
  (void)self, (void)deadline;
  return CDMF_INTERRUPTED;
}
static cdmf_status driver_hold(void* self, cdmf_peer peer, uint64_t token, uint64_t* held) {
  (void)self, (void)peer, (void)token, (void)held;
  return CDMF_UNSUPPORTED;
}
static void driver_unhold(void* self, uint64_t held) { (void)self, (void)held; }
static int driver_poll_fd(void* self) {
  (void)self;
  return -1;
}
static cdmf_arm_result driver_arm(void* self) {
  (void)self;
  return CDMF_READY;
}
static void driver_interrupt(void* self) { (void)self; }
static cdmf_status driver_disconnect(void* self, cdmf_peer peer, cdmf_status reason) {
  (void)self, (void)peer, (void)reason;
  return CDMF_NOT_CONNECTED;
}
static void driver_close(void* self) { (void)self; }
static void driver_destroy(void* self) { free(self); }
static void driver_describe(void* self, cdmf_info* info) {
  (void)self;
  info->address = "";
  info->detail = "";
}
static const void* driver_get_extension(void* self, const char* name) {
  (void)self, (void)name;
  return NULL;
}

static __attribute__((unused)) const cdmf_driver_ops ops = {.struct_size = sizeof(cdmf_driver_ops),
                                                            .open = driver_open,
                                                            .attach = driver_attach,
                                                            .claim = driver_claim,
                                                            .commit = driver_commit,
                                                            .abort = driver_abort,
                                                            .flush = driver_flush,
                                                            .await_space = driver_await_space,
                                                            .receive_burst = driver_receive_burst,
                                                            .release_burst = driver_release_burst,
                                                            .await_messages = driver_await_messages,
                                                            .hold = driver_hold,
                                                            .unhold = driver_unhold,
                                                            .poll_fd = driver_poll_fd,
                                                            .arm = driver_arm,
                                                            .interrupt = driver_interrupt,
                                                            .disconnect = driver_disconnect,
                                                            .close = driver_close,
                                                            .destroy = driver_destroy,
                                                            .describe = driver_describe,
                                                            .get_extension = driver_get_extension};

// ---- The descriptor
// ---------------------------------------------------------------------------------------------------

#ifdef TEST_UNDEFINED
void cdmf_test_nobody_defines_this(void);
#endif
#ifdef TEST_NEEDS_LIBRARY
void cdmf_test_vanishing(void);
#endif

static __attribute__((unused)) cdmf_status create(const cdmf_host* host, const cdmf_config* config, cdmf_driver* driver,
                                                  cdmf_error* error) {
#ifdef TEST_UNDEFINED
  cdmf_test_nobody_defines_this();
#endif
#ifdef TEST_NEEDS_LIBRARY
  cdmf_test_vanishing();
#endif
#ifdef TEST_CREATE_FAILS
  (void)host, (void)driver;
  snprintf(error->message, sizeof error->message, "no room for \"%s\"", config->endpoint);
  return CDMF_RESOURCE_EXHAUSTED;
#else
  (void)config;
  driver->self = malloc(1);
  if (driver->self == NULL) {
    snprintf(error->message, sizeof error->message, "out of memory");
    return CDMF_RESOURCE_EXHAUSTED;
  }
  driver->ops = &ops;
  if (host != NULL && host->log_level(host->context) <= CDMF_LOG_INFO) {
    host->log(host->context, CDMF_LOG_INFO, "a driver was made", __FILE__, 1);
  }
  return CDMF_OK;
#endif
}

#ifdef TEST_CRASHES
// Ends every process that loads it.
static __attribute__((constructor)) void crash(void) { abort(); }
#endif

static const void* get_extension(const char* name) {
  (void)name;
  return NULL;
}

static const cdmf_build_info build = {sizeof(cdmf_build_info), TEST_BUILD_FLAGS, "GNU or Clang", "C11", ""};

#define ROW(type_, flags_, name_, default_, minimum_, maximum_, choices_, summary_) \
  { sizeof(cdmf_property), type_, flags_, 0, name_, default_, minimum_, maximum_, choices_, summary_ }

#ifdef TEST_BAD_TABLE
static const char* const nothing[] = {NULL};
static const char* const doubled[] = {"a", "", "a", NULL};
static __attribute__((unused)) const cdmf_property properties[] = {
    ROW(CDMF_PROPERTY_INT, 0, "twice", "1", NULL, NULL, NULL, "Is there twice."),
    ROW(CDMF_PROPERTY_INT, 0, "twice", "1", NULL, NULL, NULL, "Is there twice."),
    ROW(CDMF_PROPERTY_INT, 0, "too_small", "1", "2", "4", NULL, "Default below the minimum."),
    ROW(CDMF_PROPERTY_INT, 0, "upside_down", "3", "4", "2", NULL, "Minimum above the maximum."),
    ROW(CDMF_PROPERTY_SIZE, 0, "bad_limit", "3", "one", NULL, NULL, "A limit that is no size."),
    ROW(CDMF_PROPERTY_CHOICE, 0, "no_choice", "a", NULL, NULL, nothing, "Nothing to choose."),
    ROW(CDMF_PROPERTY_BOOL, 0, "send_timeout", "true", NULL, NULL, NULL, "A name that is taken."),
    ROW(77, 0, "odd", "true", NULL, NULL, NULL, "An unknown type."),
    ROW(CDMF_PROPERTY_BOOL, 0, "silent", "true", NULL, NULL, NULL, ""),
    ROW(CDMF_PROPERTY_INT, CDMF_PROPERTY_REQUIRED, "asked_for", "1", NULL, NULL, NULL, "Required with a default."),
    ROW(CDMF_PROPERTY_INT, CDMF_PROPERTY_ROLE, "alias", "1", NULL, NULL, NULL, "An alias of role that is no BOOL."),
    ROW(CDMF_PROPERTY_BOOL, 0, "Shouting", "true", NULL, NULL, NULL, "Not snake_case."),
    ROW(CDMF_PROPERTY_CHOICE, 0, "echo", "a", NULL, NULL, doubled, "A choice twice, and an empty one."),
    ROW(CDMF_PROPERTY_TEXT, 0, "bounded", "a", "a", "b", NULL, "Limits of a text."),
    ROW(CDMF_PROPERTY_DURATION, 0, "open", NULL, NULL, NULL, NULL, "No default."),
    ROW(CDMF_PROPERTY_BOOL, 0, "loud", "true", NULL, NULL, NULL, "Rings the \a bell."),
    ROW(CDMF_PROPERTY_BOOL, 0, "unsure", "maybe", NULL, NULL, NULL, "A default that is no BOOL."),
    ROW(CDMF_PROPERTY_INT, CDMF_PROPERTY_POWER_OF_TWO, "uneven", "12", NULL, NULL, NULL, "No power of two."),
    ROW(CDMF_PROPERTY_BOOL, 0, NULL, "true", NULL, NULL, NULL, "Has no name."),
    {8, CDMF_PROPERTY_BOOL, 0, 0, "cut", "true", NULL, NULL, NULL, "Says that it is smaller than it is."},
    ROW(CDMF_PROPERTY_BOOL, 0, "not_reached", "maybe", NULL, NULL, NULL, "Nobody knows where it starts."),
};
#else
static __attribute__((unused)) const char* const modes[] = {"calm", "eager", NULL};
static __attribute__((unused)) const cdmf_property properties[] = {
    ROW(CDMF_PROPERTY_INT, CDMF_PROPERTY_POWER_OF_TWO, "depth", "8", "1", "1024", NULL, "How many at once."),
    ROW(CDMF_PROPERTY_CHOICE, 0, "mode", "calm", NULL, NULL, modes, "How it waits."),
};
#endif

#ifndef TEST_PROPERTIES
#define TEST_PROPERTIES properties
#endif
#ifndef TEST_PROPERTY_COUNT
#define TEST_PROPERTY_COUNT (sizeof properties / sizeof properties[0])
#endif

#ifdef TEST_SHORT_SYMBOL
EXPORTED const uint32_t cdmf_plugin_v1 = CDMF_PLUGIN_MAGIC;
#endif
EXPORTED const cdmf_plugin TEST_SYMBOL = {.struct_size = TEST_STRUCT_SIZE,
                                          .magic = TEST_MAGIC,
                                          .abi_major = TEST_ABI_MAJOR,
                                          .abi_minor = CDMF_ABI_MINOR,
                                          .min_host_minor = TEST_MIN_HOST_MINOR,
                                          .build = &build,
                                          .type = TEST_TYPE,
                                          .version = "1.2.3",
                                          .vendor = "cdmf tests",
                                          .license = "none",
                                          .summary = TEST_SUMMARY,
                                          .capabilities = TEST_CAPABILITIES,
                                          .max_message_size_limit = 1048576,
                                          .properties = TEST_PROPERTIES,
                                          .property_count = TEST_PROPERTY_COUNT,
                                          .create = TEST_CREATE,
                                          .get_extension = get_extension};
