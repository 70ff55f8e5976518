// A library that is there when a plugin is linked and cannot be found when it is loaded.
__attribute__((visibility("default"))) void cdmf_test_vanishing(void) {}
