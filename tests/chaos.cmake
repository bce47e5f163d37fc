# Faults for real processes, and tests with them. The shim is preloaded into the programs, so it links
# nothing and carries no sanitizer.
file(GLOB IW_FAULTS_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/support/faults/*.cc)
list(FILTER IW_FAULTS_SOURCES EXCLUDE REGEX "/truth_agent\\.cc$")
add_library(iw_faults MODULE ${IW_FAULTS_SOURCES})
target_include_directories(iw_faults PRIVATE ${CMAKE_SOURCE_DIR})
target_compile_options(iw_faults PRIVATE -Wall -Wextra -Wshadow -Wconversion -Werror)
add_executable(truth_agent ${CMAKE_CURRENT_SOURCE_DIR}/support/faults/truth_agent.cc)
target_compile_options(truth_agent PRIVATE -Wall -Wextra -Wshadow -Wconversion -Werror)
set_target_properties(iw_faults truth_agent PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/faults
                      RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/faults)

# The shim, the checker and the proxy by themselves; faults that have one right outcome each; a short round of all faults.
foreach(name power_cut checker proxy special examples)
    add_test(NAME Chaos.${name} COMMAND ${IW_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/chaos/test_${name}.py)
endforeach()
add_test(NAME Chaos.round COMMAND ${IW_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/chaos/chaos.py --seed 1 --minutes 1)
set_tests_properties(Chaos.power_cut Chaos.checker Chaos.proxy Chaos.special Chaos.examples Chaos.round PROPERTIES
                     LABELS chaos TIMEOUT 600
                     ENVIRONMENT "IW_TEST_BUILD=${CMAKE_BINARY_DIR};PYTHONDONTWRITEBYTECODE=1")
