# Every library comes from a Debian 12 package; launch/install_packages.sh installs them.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(dnnl REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(ZLIB REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(sentencepiece REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
# Whether this libxxhash can choose among instruction sets at run time.
include(CheckCXXSourceCompiles)
set(CMAKE_REQUIRED_LIBRARIES PkgConfig::xxhash)
check_cxx_source_compiles("#include <xxh_x86dispatch.h>
int main() { return XXH3_128bits(nullptr, 0).low64 == 0; }" SWITCHYARD_XXHASH_DISPATCH)
unset(CMAKE_REQUIRED_LIBRARIES)
pkg_check_modules(isal REQUIRED IMPORTED_TARGET libisal)
find_library(SENTENCEPIECE_TRAIN_LIBRARY sentencepiece_train REQUIRED)

# Static on purpose: Debian's shared libprotobuf beside libsentencepiece (which carries an older one)
# aborts at start.
set(Protobuf_USE_STATIC_LIBS ON)
find_package(Protobuf REQUIRED)

if(SWITCHYARD_MPI)
  find_package(MPI REQUIRED COMPONENTS C)
endif()
