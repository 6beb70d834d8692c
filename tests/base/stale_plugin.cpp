/// A plug-in of the same version that other sources were built into.
extern "C" __attribute__((visibility("default"))) const char* troupe_plugin_build() {
  return TROUPE_VERSION "+0123456789abcdef";
}
extern "C" __attribute__((visibility("default"))) void troupe_of_stale_plugin() {}
