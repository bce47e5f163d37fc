# The simulator has a build of the cores of its own: optimised in every configuration, because it runs them for
# millions of steps, and with the planted bugs that a run can switch on (common/base/planted.h).
add_library(iw_sim STATIC ${CMAKE_SOURCE_DIR}/cmake/empty.cc)
iw_sources(iw_sim broker/core)
iw_sources(iw_sim worker/core)
file(GLOB IW_SIM_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/sim/*.cc)
list(FILTER IW_SIM_SOURCES EXCLUDE REGEX "(/main|_test)\\.cc$")
target_sources(iw_sim PRIVATE ${IW_SIM_SOURCES})
target_link_libraries(iw_sim PUBLIC iw_flags iw_messages)
target_compile_definitions(iw_sim PUBLIC IW_PLANTED_BUGS)
# The same false alarms of GCC 12 as in an optimised build of everything.
target_compile_options(iw_sim PUBLIC -O2 -Wno-maybe-uninitialized -Wno-array-bounds -Wno-restrict
                       -Wno-stringop-overflow -Wno-stringop-overread)

add_executable(simulator ${CMAKE_CURRENT_SOURCE_DIR}/sim/main.cc)
target_link_libraries(simulator PRIVATE iw_sim)

# Its tests are the simulator's, so they have planted bugs as well.
add_executable(sim_test ${CMAKE_CURRENT_SOURCE_DIR}/sim/sim_test.cc)
target_link_libraries(sim_test PRIVATE iw_sim iw_test_support)
target_compile_definitions(sim_test PRIVATE IW_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
gtest_discover_tests(sim_test DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 300 LABELS sim)
