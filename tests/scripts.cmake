# Rules and scripts as tests.
set(IW_PYTHON /usr/bin/python3)  # Debian's: its packages carry pyzmq and msgpack

add_test(NAME Tidy.rules COMMAND ${IW_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/tidy/tidy.py ${CMAKE_SOURCE_DIR})
add_test(NAME Tidy.self_test COMMAND ${IW_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/tidy/tidy.py --self-test)
set_tests_properties(Tidy.rules Tidy.self_test PROPERTIES LABELS unit TIMEOUT 60)

# The programs as a user drives them, in folders of their own.
foreach(name main_job protocol_client terminal b_retries b_holds b_families b_backup abort session_lib
        files watchdog travel_faults examples_embedded examples_elsewhere examples_three document_embedded
        document_elsewhere contract_config contract_edits contract_environment contract_ids contract_manager
        contract_status contract_table contract_travel contract_workspace)
    add_test(NAME Acceptance.${name} COMMAND ${IW_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/acceptance/test_${name}.py)
    set_tests_properties(Acceptance.${name} PROPERTIES LABELS acceptance TIMEOUT 600
                         ENVIRONMENT "IW_TEST_BUILD=${CMAKE_BINARY_DIR};PYTHONDONTWRITEBYTECODE=1")
endforeach()
