// Defaults of the sanitizers for the programs of this folder; not compiled with them.
extern "C" {

// The first race ends the program.
[[gnu::visibility("default")]] const char* __tsan_default_options();
const char* __tsan_default_options() { return "halt_on_error=1:report_signal_unsafe=0"; }

[[gnu::visibility("default")]] const char* __asan_default_options();
const char* __asan_default_options() { return "detect_leaks=0"; }

}  // extern "C"
