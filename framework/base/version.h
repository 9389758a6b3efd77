// The program's version, as CMakeLists.txt says it.
#pragma once

namespace switchyard {

inline constexpr const char* kVersion = SWITCHYARD_VERSION;

}  // namespace switchyard
