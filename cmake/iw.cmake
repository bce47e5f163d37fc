# How the parts of this tree are declared. A part is a folder: every *.cc in it but main.cc belongs to it.
include(GNUInstallDirs)
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(tomlplusplus REQUIRED)
pkg_check_modules(zmq REQUIRED IMPORTED_TARGET libzmq)
pkg_check_modules(sodium REQUIRED IMPORTED_TARGET libsodium)

# msgpack-cxx is header only; without this it would ask for Boost.
add_library(msgpack-cxx INTERFACE)
target_compile_definitions(msgpack-cxx INTERFACE MSGPACK_NO_BOOST)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    # Paths relative to the tree: a fresh clone beside the old one finds what was compiled before. The
    # sloppiness is what precompiled headers need.
    set(CMAKE_CXX_COMPILER_LAUNCHER
        ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
        CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE_PROGRAM})
endif()

add_library(iw_flags INTERFACE)
target_compile_options(iw_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wswitch-enum
                       -Wno-missing-field-initializers -Werror)
# At -O2 GCC 12 takes the other alternative of a moved std::variant (Result<T>) for one that is read.
target_compile_options(iw_flags INTERFACE $<$<CONFIG:Release>:-Wno-maybe-uninitialized>)
target_include_directories(iw_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_link_libraries(iw_flags INTERFACE Threads::Threads)
if(IW_SANITIZE)
    target_compile_options(iw_flags INTERFACE -fsanitize=${IW_SANITIZE} -fno-omit-frame-pointer
                           -fno-sanitize-recover=all)
    target_link_options(iw_flags INTERFACE -fsanitize=${IW_SANITIZE})
endif()

# The same layout in the build tree as where it is installed, so that both run from where they stand.
set(IW_LIBEXEC ${CMAKE_INSTALL_LIBEXECDIR}/native-orchestrator)
set(IW_SHARE ${CMAKE_INSTALL_DATADIR}/native-orchestrator)

function(iw_sources target folder)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*.cc)
    list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
    target_sources(${target} PRIVATE ${sources})
endfunction()

# iw_library(NAME FOLDER [OUR LIBRARIES...] [THIRD_PARTY LIBRARIES...])
function(iw_library target folder)
    cmake_parse_arguments(arg "" "" "THIRD_PARTY" ${ARGN})
    add_library(${target} STATIC ${CMAKE_SOURCE_DIR}/cmake/empty.cc)
    iw_sources(${target} ${folder})
    target_link_libraries(${target} PUBLIC iw_flags ${arg_UNPARSED_ARGUMENTS} PRIVATE ${arg_THIRD_PARTY})
endfunction()

# iw_program(NAME MAIN LIBRARY BIN|LIBEXEC)
function(iw_program target main library where)
    add_executable(${target} ${CMAKE_SOURCE_DIR}/${main})
    target_link_libraries(${target} PRIVATE ${library})
    if(where STREQUAL BIN)
        set(destination ${CMAKE_INSTALL_BINDIR})
    else()
        set(destination ${IW_LIBEXEC})
    endif()
    set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/${destination})
    install(TARGETS ${target} DESTINATION ${destination})
endfunction()

# The files that the programs read: the ready-made configuration and the scripts that `ictl init` writes.
function(iw_share)
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/${IW_SHARE})
    foreach(folder config ops)
        set(source ${CMAKE_SOURCE_DIR}/config)
        if(folder STREQUAL ops)
            set(source ${CMAKE_SOURCE_DIR}/scripts/ops)
        endif()
        file(CREATE_LINK ${source} ${CMAKE_BINARY_DIR}/${IW_SHARE}/${folder} SYMBOLIC)
        install(DIRECTORY ${source}/ DESTINATION ${IW_SHARE}/${folder} USE_SOURCE_PERMISSIONS)
    endforeach()
endfunction()
