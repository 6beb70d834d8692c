/// A module that says of no build that it belongs to it.
extern "C" __attribute__((visibility("default"))) void troupe_of_silent_plugin() {}
