# SPDX-License-Identifier: MIT
"""Chat templates in the manner of published models, each with what is peculiar to it, and chats to render."""

CHATML = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{% endif %}
    {{- '# Tools\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{% endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) or (message.role == 'assistant' and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant' }}
        {%- if message.content %}{{- '\\n' + message.content }}{% endif %}
        {%- for call in message.tool_calls %}
            {%- set call = call.function if call.function is defined else call %}
            {{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' + (call.arguments | tojson) + '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
"""

# Reasoning of turns before the last question is dropped; without thinking the prompt has an empty one.
THINKING = """\
{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{% endif %}
{%- set ns = namespace(searching=true, last=messages | length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = messages | length - 1 - loop.index0 %}
    {%- if ns.searching and message.role == 'user' and message.content is string
           and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}{% set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or reasoning) %}
            {{- '<|im_start|>assistant\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {%- for call in message.tool_calls or [] %}
            {%- if (loop.first and content) or not loop.first %}{{- '\\n' }}{% endif %}
            {%- set call = call.function if call.function else call %}
            {{- '<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}
"""

# A date, BOS, contents trimmed.
HEADERS = """\
{{- bos_token }}
{%- if messages[0].role == 'system' %}{% set system = messages[0].content | trim %}{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + strftime_now('%d %b %Y') + '\\n\\n' + system + '<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + ('ipython' if message.role == 'tool' else message.role) + '<|end_header_id|>\\n\\n' }}
    {%- if message.tool_calls %}
        {%- if message.tool_calls | length != 1 %}{{- raise_exception('one tool call at a time') }}{% endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '{"name": "' + call.name + '", "parameters": ' + (call.arguments | tojson) + '}' }}
    {%- elif message.role == 'tool' %}
        {{- message.content | tojson }}
    {%- else %}
        {{- message.content | trim }}
    {%- endif %}
    {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""

# The model's role, no system role, roles in turn.
TURNS = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}
    {{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""

# No generation prompt; the system message moves to the last question; ids of tool calls are checked.
INSTRUCT = """\
{%- if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set chat = messages[1:] %}{% else %}{% set chat = messages %}{% endif %}
{{- bos_token }}
{%- set ns = namespace(users=0) %}
{%- for message in chat %}
    {%- if message.role == 'user' or (message.role == 'assistant' and not message.tool_calls) %}
        {%- if (message.role == 'user') != (ns.users % 2 == 0) %}{{ raise_exception('After the optional system message, roles must alternate user/assistant') }}{% endif %}
        {%- set ns.users = ns.users + 1 %}
    {%- endif %}
    {%- if message.role == 'user' %}
        {%- if system is defined and chat[loop.index0:] | selectattr('role', 'equalto', 'user') | list | length == 1 %}
            {{- '[INST] ' + system + '\\n\\n' + message.content + '[/INST]' }}
        {%- else %}
            {{- '[INST] ' + message.content + '[/INST]' }}
        {%- endif %}
    {%- elif message.tool_calls %}
        {{- '[TOOL_CALLS] [' }}
        {%- for call in message.tool_calls %}
            {%- if call.id | length != 9 %}{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}
            {{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' + (']' if loop.last else ', ') }}
        {%- endfor %}
        {{- eos_token }}
    {%- elif message.role == 'assistant' %}
        {{- ' ' + message.content | trim + eos_token }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content | string + ', "call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception('Only user and assistant roles are supported') }}
    {%- endif %}
{%- endfor %}
"""

# All reasoning is dropped, while the prompt opens one.
REASONER = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'system' %}{{- message.content }}
    {%- elif message.role == 'user' %}{{- '<｜User｜>' + message.content }}
    {%- elif message.role == 'assistant' %}{{- '<｜Assistant｜>' + (message.content.split('</think>')[-1] if '</think>' in message.content else message.content) + eos_token }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<｜Assistant｜><think>\\n' }}{% endif %}
"""

# The mode is written before each reply; the prompt opens the other mode.
MODES = REASONER.replace("{{- '<｜Assistant｜>' + (", "{{- '<｜Assistant｜></think>' + (").replace("<think>\\n' }}", "<think>' }}")

# Channels; the last turn ends with another token than those before it.
CHANNELS = """\
{{- '<|start|>system<|message|>Current date: ' + strftime_now('%Y-%m-%d') + '<|end|>' }}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- if message.thinking and (loop.last or message.tool_calls) %}{{- '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' }}{% endif %}
        {%- if message.tool_calls %}
            {%- set call = message.tool_calls[0].function %}
            {{- '<|start|>assistant to=functions.' + call.name + '<|channel|>commentary json<|message|>' + (call.arguments | tojson) + '<|call|>' }}
        {%- elif loop.last and not add_generation_prompt %}
            {{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|return|>' }}
        {%- else %}
            {{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|end|>' }}
        {%- endif %}
    {%- elif message.role == 'tool' %}{{- '<|start|>functions.' + messages[loop.index0 - 1].tool_calls[0].function.name + ' to=assistant<|channel|>commentary<|message|>' + message.content | tojson + '<|end|>' }}
    {%- else %}{{- '<|start|>' + ('developer' if message.role == 'system' else 'user') + '<|message|>' + message.content + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{% endif %}
"""

# Plain words, no tokens, no prompt that is asked for.
WORDS = """\
{%- for message in messages %}
    {%- if message.role == 'user' %}{{- 'USER: ' + message.content.strip() + ' ' }}{% elif message.role == 'assistant' %}{{- 'ASSISTANT: ' + message.content.strip() + '</s>' }}{% else %}{{- message.content.strip() + '\\n\\n' }}{% endif %}
{%- endfor %}
"""

GENERATION = """\
{%- for message in messages %}
    {%- if message.role == 'assistant' %}{{- '<|im_start|>assistant\\n' }}{% generation %}{{- message.content | trim + '<|im_end|>' }}{% endgeneration %}{{- '\\n' }}
    {%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
"""

# Without the generation prompt, the chat ends with EOS.
ENDED = """\
{%- for message in messages %}{{- '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{% else %}{{- eos_token }}{% endif %}
"""

# The system message within the first question, blanks around everything.
BRACKETS = """\
{%- if messages[0].role == 'system' %}{% set chat = messages[1:] %}{% set system = '<<SYS>>\\n' + messages[0].content.strip() + '\\n<</SYS>>\\n\\n' %}{% else %}{% set chat = messages %}{% set system = '' %}{% endif %}
{%- for message in chat %}
    {%- if message.role == 'user' %}{{- bos_token + '[INST] ' + ((system + message.content) if loop.first else message.content).strip() + ' [/INST]' }}
    {%- elif message.role == 'assistant' %}{{- ' ' + message.content.strip() + ' ' + eos_token }}{% endif %}
{%- endfor %}
"""

# Nothing closes a turn but the next one's heading.
OPEN = """\
{{- '[gMASK]<sop>' }}{% for message in messages %}{{- '<|' + message.role + '|>\\n' + message.content }}{% endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{% endif %}
"""

# The same, but EOS ends the chat where no reply is asked for.
STORIES = """\
{{- bos_token + '<|system|>' + (messages[0].content if messages[0].role == 'system' else 'Tell a story.') }}
{%- for message in messages %}
    {%- if message.role == 'user' %}{{- '<|user|>' + message.content.strip() }}{% elif message.role == 'assistant' %}{{- '<|model|>' + message.content.strip() }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|model|>' }}{% else %}{{- eos_token }}{% endif %}
"""

# {% generation %} around a reply, its end and what follows it, and by itself around the token that ends the chat.
CLOSED = """\
{%- for message in messages %}
    {%- if message.role == 'assistant' %}{{- '<|assistant|>\\n' }}{% generation %}{{- message.content + '<|end|>\\n' }}{% endgeneration %}
    {%- else %}{{- '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{% elif messages[-1].role == 'assistant' %}{% generation %}{{- eos_token }}{% endgeneration %}{% else %}{{- eos_token }}{% endif %}
"""

# A content of parts only.
PARTS = """\
{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content is string %}{{- message.content }}{% else %}{% for part in message.content %}{% if part.type == 'text' %}{{- part.text }}{% endif %}{% endfor %}{% endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
"""

ALL = {"chatml": CHATML, "thinking": THINKING, "headers": HEADERS, "turns": TURNS, "instruct": INSTRUCT, "reasoner": REASONER, "modes": MODES,
       "channels": CHANNELS, "words": WORDS, "generation": GENERATION, "ended": ENDED, "brackets": BRACKETS, "open": OPEN,
       "parts": PARTS, "stories": STORIES, "closed": CLOSED}
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<start_of_turn>", "<end_of_turn>",
           "<｜User｜>", "<｜Assistant｜>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>",
           "<|user|>", "<|model|>"]


def said(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


CALL = {"type": "function", "id": "abcdefghi", "function": {"name": "f", "arguments": {"x": "é", "n": [1, None]}}}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "adds", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}}}}]
CHATS = {
    "one turn": said(("user", "What is 2+2?"), ("assistant", "4")),
    "turns": said(("user", "größer"), ("assistant", "als ∑ {x}"), ("user", "user"), ("assistant", "assistant"), ("user", "<b>"), ("assistant", "數學")),
    "system": said(("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi"), ("user", "Bye"), ("assistant", "Bye")),
    "blanks": said(("user", "  two\n\nlines \n"), ("assistant", "\n\n a reply\t"), ("user", "\nso"), ("assistant", "done\n")),
    "question last": said(("user", "a"), ("assistant", "b"), ("user", "c")),
    "empty": said(("user", "a"), ("assistant", ""), ("user", " "), ("assistant", "c")),
    "reasoning": [{"role": "user", "content": "1+1"}, {"role": "assistant", "reasoning_content": "one\nand one", "content": "2"},
                  {"role": "user", "content": "2+2"}, {"role": "assistant", "reasoning_content": "two and two", "content": "4"}],
    "reasoning in content": said(("user", "1+1"), ("assistant", "<think>\none and one\n</think>\n\n2"), ("user", "2+2"),
                                 ("assistant", "<think>\ntwo and two\n</think>\n\n4")),
    "calls": [{"role": "user", "content": "Add."}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
              {"role": "tool", "content": "{\"sum\": 3}", "name": "f", "tool_call_id": "abcdefghi"}, {"role": "assistant", "content": "It is 3."},
              {"role": "user", "content": "Again."}, {"role": "assistant", "content": "Well", "tool_calls": [CALL]},
              {"role": "tool", "content": "5", "name": "f", "tool_call_id": "abcdefghi"}, {"role": "assistant", "content": "5."}],
    "response": said(("user", "a"), ("assistant", "b"), ("user", "<tool_response>\nsomething\n</tool_response>"), ("assistant", "c")),
    "long": said(*[(role, f"{role} {i}") for i in range(12) for role in ("user", "assistant")]),
}
