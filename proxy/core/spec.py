"""What the specs close: the enums a client may check against.

Versioned data, because specs grow: `ResponseError.code` had 18 members for a long time.
`tests/core/test_spec.py` compares them with the installed openai SDK and says what is new.
"""

from __future__ import annotations

from typing import Final

SPEC: Final = "openai-python 3.54.0"

# types/responses/response_error.py, ResponseError.code
RESPONSE_ERROR_CODES: Final = (
    "server_error",
    "rate_limit_exceeded",
    "invalid_prompt",
    "data_residency_mismatch",
    "bio_policy",
    "misalignment_policy_violation",
    "vector_store_timeout",
    "invalid_image",
    "invalid_image_format",
    "invalid_base64_image",
    "invalid_image_url",
    "image_too_large",
    "image_too_small",
    "image_parse_error",
    "image_content_policy_violation",
    "invalid_image_mode",
    "image_file_too_large",
    "unsupported_image_media_type",
    "empty_image_file",
    "failed_to_download_image",
    "image_file_not_found",
)

# types/responses/response.py, IncompleteDetails.reason
INCOMPLETE_REASONS: Final = frozenset(
    {"max_output_tokens", "max_messages", "content_filter", "steered"}
)

# What other makes of servers call the same.
INCOMPLETE_ALIASES: Final = {"max_tokens": "max_output_tokens", "length": "max_output_tokens"}

# Names of request fields, the only words that may stand in `param`: openai-python's
# parameter types for Responses, Chat Completions, completions, embeddings, images, audio
# and moderations, and Anthropic's Messages. An identifier of any other name could be a
# deployment, a host or a key.
FIELD_NAMES: Final = frozenset(
    """
    action actions allowed_domains allowed_tools annotations approval_request_id approve
    arguments audio background best_of budget_tokens bytes cache_control call_id
    chunking_strategy code command container container_id content context_management
    conversation data description detail dimensions display_height display_width echo effort
    encoding_format encrypted_content environment file file_data file_id file_ids file_url
    filename filters format frequency_penalty function function_call functions grammar
    headers id image image_url include include_usage index input input_audio input_fidelity
    input_image input_image_mask input_schema input_text input_tokens instructions
    json_schema language limit logit_bias logprobs mask max_completion_tokens
    max_num_results max_output_length max_output_tokens max_tokens max_tool_calls
    media_type messages metadata min_p modalities mode model moderation n name order output
    output_compression output_format output_schema parallel_tool_calls parameters
    partial_images personality phase prediction presence_penalty previous_response_id prompt
    prompt_cache_key prompt_cache_options prompt_cache_retention properties quality query
    ranking_options reasoning reasoning_effort refusal repetition_penalty require_approval
    required response_format result role safety_identifier schema score_threshold
    search_context_size seed server_description server_label server_url service_tier size
    source speed starting_after status stop stop_sequences store stream stream_format
    stream_options strict style suffix summary system temperature text thinking threshold
    timeout_ms timestamp_granularities token tool_call_id tool_calls tool_choice tools
    top_k top_logprobs top_p truncation type url user user_location value variables
    vector_store_ids verbosity version voice web_search_options
    """.split()  # noqa: SIM905 - a hundred quoted words are harder to read
)

# types/responses/response_stream_event.py. An event of any other type may pass too, when it
# carries no error; the list is here so that a newer SDK's additions are noticed and looked at.
RESPONSE_EVENTS: Final = frozenset(
    """
    error
    response.audio.delta response.audio.done
    response.audio.transcript.delta response.audio.transcript.done
    response.code_interpreter_call.completed response.code_interpreter_call.in_progress
    response.code_interpreter_call.interpreting
    response.code_interpreter_call_code.delta response.code_interpreter_call_code.done
    response.compaction.compacting
    response.completed
    response.content_part.added response.content_part.done
    response.created
    response.custom_tool_call_input.delta response.custom_tool_call_input.done
    response.failed
    response.file_search_call.completed response.file_search_call.in_progress
    response.file_search_call.searching
    response.function_call_arguments.delta response.function_call_arguments.done
    response.image_generation_call.completed response.image_generation_call.generating
    response.image_generation_call.in_progress response.image_generation_call.partial_image
    response.in_progress
    response.incomplete
    response.mcp_call.completed response.mcp_call.failed response.mcp_call.in_progress
    response.mcp_call_arguments.delta response.mcp_call_arguments.done
    response.mcp_list_tools.completed response.mcp_list_tools.failed
    response.mcp_list_tools.in_progress
    response.output_item.added response.output_item.done
    response.output_text.annotation.added response.output_text.delta response.output_text.done
    response.queued
    response.reasoning_summary_part.added response.reasoning_summary_part.done
    response.reasoning_summary_text.delta response.reasoning_summary_text.done
    response.reasoning_text.delta response.reasoning_text.done
    response.refusal.delta response.refusal.done
    response.shell_call_command.added response.shell_call_command.delta
    response.shell_call_command.done
    response.shell_call_output_content.delta response.shell_call_output_content.done
    response.web_search_call.completed response.web_search_call.in_progress
    response.web_search_call.searching
    """.split()  # noqa: SIM905 - a hundred quoted words are harder to read
)
