"""More forms of request for the embedded pack's prompts; `{}` is filled from the lists."""

from __future__ import annotations

EXPLAIN = (
    "{}?", "{} - short version please", "what's the deal with {}", "i never understood {}, can you help",
    "Explain {} in three sentences.", "Explain {} without jargon.", "Use an everyday example to explain {}.",
    "Write a numbered list with six points about {}.", "Describe {} as if you were a museum guide.",
    "Teach me {} in one minute.", "I am preparing an exam. What do I need to know about {}?",
    "My grandmother asked me about {} yesterday and I could not answer. What should I tell her?",
    "How would an expert describe {}?", "Give me a definition of {} and then one surprising detail.",
    "tell me something cool about {}", "Write an encyclopedia entry about {} with a heading for each section.",
    "What is the history behind {}?", "Explain {} with a comparison from the kitchen.",
    "Is there anything people still don't know about {}?",
    "Write three short paragraphs about {}: the basics, an example, and why it is important.", "In one sentence: {}.",
    "Answer like a friendly professor: what is special about {}?",
    "I'm curious about {}. Please start with the simplest idea and build up.",
    "Help my class of twelve-year-olds understand {}.", "What would the world be like without {}?",
    "Outline a ten-minute lesson on {}.", "Name the key terms one needs for {} and explain each in a line.",
    "Describe {} using only short sentences.", "eli5: {}", "Write a blog post of about 200 words on {}.",
    "Walk me through {} step by step.", "Could you write a note on {} for a school magazine?",
)  # fmt: skip
LISTS = (
    "Write five true-or-false statements about {}, with the solutions.",
    "Make three multiple-choice questions on {} and mark the right answers.",
    "Write flash cards about {}: question on one side, answer on the other.",
    "Give me a catchy opening line for a talk on {}.", "Write a glossary of eight words that belong to {}.",
    "What are four good search terms for someone who studies {}?", "Make a simple timeline or sequence for {}.",
    "List three myths and three facts about {}.", "Write a riddle whose answer is {}.",
    "Write a rhyme that helps me remember something about {}.",
    "Propose an experiment or activity that shows {} to children.", "Put the main ideas of {} into a YAML list.",
    "Which jobs have something to do with {}?", "Write a tweet about {}.",
    "Draft the script of a one-minute video on {}.", "Write a haiku about {} and say what it means.",
    "Interview an imaginary expert on {}: four questions, four answers.",
    "Name one number, one person or one place that belongs to {}.",
    "Write a letter in which a child asks about {}.", "Make a Markdown table with pros and cons of {}.",
)  # fmt: skip
HOW = (
    "how to {}?", "need to {} today, what do i do", "Write a checklist for someone who wants to {}.",
    "What tools or materials do I need to {}?", "Explain in five short steps how to {}.",
    "Can anyone learn to {}? How long does it take?", "Help! I have to {} and I have never done it before.",
    "Write a friendly how-to article: how to {}.",
    "What is the quickest way to {}, and what is the most careful one?",
    "My friend wants to {}. What advice should I pass on?",
    "Describe what an experienced person does differently to {}.", "Give me the dos and don'ts if I want to {}.",
    "Is there a cheap way to {}?", "I tried to {} and it went wrong. What could be the reasons?",
    "Teach me to {} as if I were your apprentice.", "Explain the why behind each step when you {}.",
    "Write a frequently-asked-questions page for people who want to {}.", "{}: best tips?",
    "In at most 60 words: how can I {}?",
)  # fmt: skip
CODE = (
    "python code that {}", "I am learning Python. Please show a commented program that {}.",
    "Write a short function in Python with type hints that {}, and two tests.", "Write a Java method that {}.",
    "Write a C program that {}.", "Describe the algorithm first, then write Python code that {}.",
    "Show two different ways to write Python code that {}. Which one is better?",
    "Write modern JavaScript that {}. Only the code, please.", "Give me pseudocode for a program that {}.",
    "Write a Go function that {}.", "Write a Python script with a main function that {} and handles wrong input.",
    "Write a Rust function that {}.", "How would you test a function that {}? List the cases.",
    "Write a TypeScript function that {}.",
)  # fmt: skip
COMPARE = (
    "{}: which is better?", "Explain to a child how to tell apart {}.",
    "Name three similarities and three differences between {}.", "I always confuse {}. Give me a trick to remember.",
    "When should one choose which? Talk about {}.", "Let {} argue in a short funny dialogue.",
    "Draw up a text table comparing {} by cost, use and history where it makes sense.",
    "in one sentence, the difference between {}", "Write a balanced paragraph about {} and end with your opinion.",
)  # fmt: skip
LETTERS = (
    "Draft an e-mail of at most 80 words about {}.", "Write a text message about {}. Casual tone.",
    "Write two versions of a note about {}: one friendly, one firm.",
    "Please write a notice for the front door about {}.",
    "I need a letter about {}, with a subject line and a clear request at the end.",
    "Write the reply you would send to a message about {}.", "Write a voice-mail script about {}.",
    "Write a post for the neighbourhood group about {}.",
)  # fmt: skip
STORY = (
    "Write a story of about 150 words in which {} gets lost in {}.", "Write a limerick about {} in {}.",
    "Write a diary entry by {}, written in {}.", "Invent a legend about {} and {}.",
    "Write a scene for the stage: {} wakes up in {}.", "Give me three plot ideas with {} and {}.",
    "Write the last paragraph of a book about {} in {}.", "Write a mystery that begins when {} finds a letter in {}.",
    "Write a song with two verses and a chorus about {} in {}.",
    "Describe {} meeting an old enemy in {}. Use the present tense.",
    "Write a postcard from {}, who is on holiday in {}.",
    "Write a story in which {} tells a lie in {}. End with a surprise.",
)  # fmt: skip
TEXTS = (
    "{}\n\nSummarize this in one sentence.", "{}\n\ntl;dr?", "Write a title and three keywords for this text:\n\n{}",
    "Retell this from another point of view:\n\n{}", "Make this more exciting without changing the facts:\n\n{}",
    "Is this text a letter, an advertisement, a story or a report? Give reasons.\n\n{}",
    "Make a table of who, what, when and where from this text:\n\n{}",
    "Write a short reply or reaction to this:\n\n{}",
    "Which details are missing from this text? Ask four questions.\n\n{}",
    "Rewrite the following as a list of short bullet points:\n\n{}",
    "What happens next? Write one more paragraph.\n\n{}", "Explain the hard words in this text:\n\n{}",
    "Turn this into a radio news item:\n\n{}", "Who could have written this, and for whom?\n\n{}",
    "Translate this text into Spanish:\n\n{}", "Rewrite this in the style of an old fairy tale:\n\n{}",
    "Use only the text below. Write two things that are true and one that is false, and mark the false one.\n\n{}",
    "Write a tweet that sums this up:\n\n{}", "Describe the mood of this passage in a few sentences:\n\n{}",
)  # fmt: skip
ASKED = (
    "{text}\n\n{question}", "Answer from the text only. {question}\n\nText: {text}",
    "Question: {question}\nContext: {text}\nAnswer:", "Read this and answer in a full sentence: {question}\n\n{text}",
)  # fmt: skip
EXTRACT = (
    "Extract all names and numbers from this text as JSON:\n\n{}",
    "Return a JSON object with the keys topic, people, places and numbers for this text:\n\n{}",
    "Find every date, time and price in the text and list them as JSON:\n\n{}",
)  # fmt: skip
ADVICE = (
    "{} What should I do?", "{} Any ideas?", "{} Give me three options with pros and cons.",
    "{} Please write the words I could say.", "{} Am I wrong to feel this way?",
    "{} Be honest: what would you do in my place?", "I need advice. {}", "{} Suggest a small first step for today.",
    "{} How would a good friend see it?", "{} Make a plan for the next two weeks.",
    "{} What questions should I ask myself?",
)  # fmt: skip
REVIEWS = (
    'Is this review positive, negative or mixed? "{}"', "Classify the sentiment and explain in one sentence: {}",
    "Write the owner's polite answer to this review: \"{}\"", "Review: {}\nSentiment (positive, neutral, negative):",
    "How many stars out of five fit this review? {}", 'What does this customer like and dislike? "{}"',
    "Make this review longer and more helpful: {}",
)  # fmt: skip
WISHES = (
    "Can you recommend {}?", "I'm looking for {}. Suggest five and say why.", "What would you suggest: {}?",
    "ideas for {}? nothing expensive", "Describe your ideal choice: {}.",
)  # fmt: skip
BRAINSTORM = (
    "Brainstorm ten {}.", "I need fresh ideas: {}. The stranger the better.",
    "Let's think about {}. Group your ideas by theme.", "{}... go!",
)  # fmt: skip
PLANS = (
    "Make a checklist for {}.", "Write a schedule for {} with times.", "Plan {} for me and name what could go wrong.",
    "What has to be done before, during and after {}?", "Write an agenda or timetable for {}, as a table.",
)  # fmt: skip
PRODUCTS = (
    "Write three slogans for {}.", "Write a product description of 80 words for {}.",
    "Who would buy or use {}? Describe two typical customers.", "Write a radio advertisement for {}.",
    "Find five names for {}.", "Write a press release about {}.", "Write an honest and funny advertisement for {}.",
)  # fmt: skip
WORDS = (
    'Define "{}" and use it in two sentences.', 'what does "{}" mean', 'Give synonyms and opposites of "{}".',
    'Explain "{}" to someone who is learning English.', 'Use "{}" in a short dialogue.',
    'Where might the expression "{}" come from, and when do people use it?',
)  # fmt: skip
ROUGH = (
    "Correct this sentence: {}", "What is wrong here, if anything? {}", 'Rewrite more elegantly: "{}"',
    "Make this polite and clear: {}", "Rewrite in the past tense and then as a question: {}",
    "Name the parts of speech in this sentence: {}", "Say this in three other ways: {}",
    "Fix the grammar and explain the rule: {}",
)  # fmt: skip
BUGS = (
    "What is wrong with this code?\n\n{}", "Fix the bug:\n\n{}", "This does not do what I want. Why?\n\n```\n{}\n```",
    "Review this snippet and write a better version:\n\n{}",
    "Explain line by line what happens here:\n\n```\n{}\n```",
)  # fmt: skip
CHATS = (
    "Summarize this conversation:\n\n{}", "What was agreed in this chat?\n\n{}",
    "Write a to-do list from these messages:\n\n{}", "How do the speakers feel, and how can you tell?\n\n{}",
    "Retell this chat as a short story:\n\n{}", "Who has to do what, and by when?\n\n{}",
)  # fmt: skip
PUZZLES = (
    "{}", "Solve this and explain your reasoning: {}", "riddle time! {}",
)  # fmt: skip
TRANSLATE = (
    'How do you say "{}" in {}?', "{1}, please: {0}", 'Translate "{}" into {} and explain each word.',
    "I am travelling. Give me a formal and an informal way to say this in {1}: {0}",
)  # fmt: skip
SUMS = (
    "A bus starts with {b} passengers. At each of {a} stops, 3 people get on and 2 get off. How many are "
    "on the bus at the end?",
    "Lena saves {b} euros a month. How many months until she can buy a bicycle for {d} euros?",
    "A tank holds {d} litres and loses {a} litres an hour. How much is left after {e} hours?",
    "A phone plan costs {e} dollars a month plus {a} cents a minute. What is the bill for {b} minutes?",
    "{b} chairs stand in rows of {a}. How many full rows are there, and how many chairs remain?",
    "A baker makes {d} rolls and sells {c} percent of them before noon. How many are left?",
    "Two trains are {d} km apart and drive towards each other at {b} and {e} km/h. When do they meet?",
    "Omar is {a} years older than Ida, who is {e}. How old are they together?",
    "A garden of {a} by {e} metres gets a fence. The fence costs {b} dollars a metre. What is the total?",
    "What is {d} minus {b}, divided by {a}? Round to one decimal.",
    "A film of {d} minutes begins at 19:{e}. When does it end?", "Which is more: {c} percent of {d} or {b}?",
    "In a bag are {a} red and {e} blue balls. What is the chance of drawing a red one?",
    "A worker earns {e} euros an hour and works {a} hours on five days. What does she earn in a week?",
    "Convert {d} minutes to hours and minutes.",
    "If {e} per {d} people have a dog, how many dogs would you expect among 1,000 people?",
    "Write {c}/100 as a fraction in lowest terms and as a decimal.",
    "A cube has edges of {a} cm. What are its volume and surface?",
    "A sequence begins with {a} and grows by {e} each time. What is the tenth number?",
    "Mia buys {a} notebooks at {e} cents and pays with a 5-dollar note. What is her change?",
    "A class of {b} pupils splits into groups of {a}. Is it possible without remainder? Why?", "quick: {b} x {e}?",
    "A car needs {a} litres per 100 km. How much fuel for {d} km?",
    "Estimate {b} times {d} first, then compute it exactly.",
)  # fmt: skip
STARTS = {
    "things": (
        "I'd like to understand {}. Where should we begin?", "Let's talk about {}.",
        "Hi! Could you give me a quick introduction to {}?", "What is the single most important thing about {}?",
        "so, {}. explain please", "Write a short text about {} for beginners.",
    ),
    "skills": (
        "Hello, I would like to {}.", "Can you coach me? I want to {}.", "What do I need before I {}?",
        "I want to {} this weekend. Give me an overview.",
    ),
    "programs": (
        "I need a small Python program that {}.", "Let's write a function that {}.",
        "How would you design code that {}?",
    ),
    "people": (
        "Let's write a story about {}. Begin with two sentences.", "Invent a name, a home and a secret for {}.",
        "Write a short scene with {}.",
    ),
    "situations": (
        "Can we talk? {}", "{} I don't know where to start.",
    ),
    "texts": (
        "Here is a text. What is it about?\n\n{}", "Please read this and give me the key point.\n\n{}",
    ),
    "wishes": (
        "Let's find {}. Ask me three questions first.", "Give me one idea: {}.",
    ),
    "plans": (
        "Help me organise {}. What comes first?", "We are planning {}. How much time do we need?",
    ),
    "products": (
        "Write one slogan for {}.", "I want to sell {}. Is that a good idea?",
    ),
    "pairs": (
        "If I had to pick between {}, what should I consider?", "Let's compare {}. Start with the differences.",
    ),
}  # fmt: skip
NEXT = {
    "things": (
        "Give an example.", "Why is that?", "Can you say this in simpler words?",
        "What is the most common mistake people make about it?", "Now make a short quiz from what you said.",
        "Summarize your answer in one sentence.", "How do we know that?", "Rewrite your answer as a list.",
        "What should I read or try next?", "and how does that affect me?", "Turn it into a short poem.",
    ),
    "skills": (
        "What if I have very little time?", "Which step is the hardest?", "What does it cost?",
        "Make a checklist of it.", "Can I do that with a child?", "What could go wrong?",
        "How will I notice that I am getting better?", "Shorten that to five lines.",
    ),
    "programs": (
        "Add comments to every line.", "How fast is it for large inputs?", "Now write a test for it.",
        "Can you do it without a loop?", "What happens with empty input?", "Translate it to JavaScript.",
        "Use clearer names for the variables.",
    ),
    "people": (
        "Continue.", "Add a surprise.", "Now tell it from the view of someone else.", "Make it funnier.",
        "Write the ending.", "Describe the place in more detail.", "What would be a good title?",
    ),
    "situations": (
        "I already tried talking about it.", "What exactly could I say?", "And if it does not work?",
        "Thanks. What is the first thing to do tomorrow?", "Is it my fault?",
    ),
    "texts": (
        "Shorten that to ten words.", "Which detail is the most surprising?", "Write a headline.",
        "Ask me a question about it.", "Now rewrite the text for children.",
    ),
    "wishes": (
        "Something cheaper, please.", "Why this one?", "I don't like that. Another idea?",
        "Perfect. How do I prepare it?",
    ),
    "plans": (
        "What if it rains?", "Make it a table.", "Who should help?", "Reduce the cost.", "What did we forget?",
    ),
    "products": (
        "Make it shorter.", "Now for teenagers.", "Write a description to go with it.", "Who are the customers?",
    ),
    "pairs": (
        "Which one do you prefer?", "Make a table of that.", "What do they have in common?", "Explain it to a child.",
    ),
}  # fmt: skip
