"""Subjects for lists, comparisons, plans, classification, translation and small talk."""

from topics import items

LISTS = items("""
healthy breakfast ideas | gift ideas for a grandmother who loves gardening | names for a black kitten | rainy day activities
ways to save energy at home | books for a twelve-year-old who likes adventure | icebreaker questions for a team meeting
vegetarian dinner ideas | hobbies you can start with no money | science fair projects | ways to reduce stress
names for a coffee shop | questions to ask at the end of a job interview | things to pack for a beach holiday
exercises you can do at a desk | synonyms for "happy" | animals that live in the desert | inventions that changed the world
uses for old newspapers | birthday party themes for a six-year-old | low-light houseplants | tips for better sleep
endangered species | ways to learn new vocabulary | conversation starters for a first date | famous landmarks in Europe
foods that are high in protein | team-building games for a small office | topics for a persuasive essay
creative writing prompts about time travel | musical instruments from around the world | ways to use leftover rice
fun facts about space | habits of successful students | renewable energy sources | picnic foods that travel well
board games for two players | cheap date ideas | small acts of kindness | signs that a plant needs more water
blog post ideas for a travel website | slogans for a bicycle repair shop | jobs for people who love animals
skills that employers look for | questions for a pub quiz about geography | drinks for a summer party without alcohol
ways to thank a teacher | fruits that grow in tropical climates | jokes for children | riddles with their answers
rhyming words for "light" | adjectives to describe a strict but fair boss | street foods from Asia | chores suitable for young children
ideas for a school talent show | warm-up games for a drama class | ways to make a small room look bigger
reasons to learn a second language | New Year's resolutions that people can keep | apps every student should know about
ways to stay active in winter | countries with a coastline on the Mediterranean | proverbs about patience
journal prompts for self-reflection | ways to market a small bakery | tools every homeowner should own
birds you might see in a city park | sauces to serve with pasta | bedtime story ideas | sports that need no equipment
title ideas for a mystery novel | plot twists for a detective story | features of a good website | fantasy kingdom names
questions to ask your grandparents | common spelling mistakes in English | ways to stay cool in a heat wave
things to check before buying a used car | first aid kit supplies | ways to recycle glass jars | autumn soup recipes
lunch box ideas for school | charity fundraising ideas | photography ideas for beginners | important events of the 20th century
benefits of drinking water | causes of air pollution | ways to practice gratitude | tips for public speaking
elements of a good short story | ways to make meetings shorter | trees with edible fruit | careers in healthcare
indoor games for a group of teenagers | tongue twisters | ways to support a friend who is sad | safety rules for a laboratory
""")

LIST_PHRASES = items("""
Give me a list of ten {}. | List five {}. | What are some {}? | Can you suggest a few {}? | I need {}. Please list some.
Brainstorm {} and give a short reason for each one. | Come up with eight {}. | Name six {} and describe each briefly.
Please share three {}. | Could you write a bulleted list of {}? | Help me think of {}. | Make a numbered list of seven {}.
I'm looking for {}. What comes to mind? | Give me some unusual {}.
""")

PAIRS = items("""
cats/dogs | tea/coffee | city life/country life | e-books/printed books | electric cars/gasoline cars
renting a home/buying a home | Python/JavaScript | SQL databases/NoSQL databases | running/swimming
online classes/classroom lessons | working from home/working in an office | butter/olive oil
solar power/wind power | trains/airplanes | a laptop/a tablet | Android phones/iPhones | novels/short stories
credit cards/debit cards | public transport/private cars | a gas stove/an induction stove | mountains/beaches
yoga/weight training | alligators/crocodiles | democracy/monarchy | capitalism/socialism | stocks/bonds
fresh vegetables/frozen vegetables | watching films at home/going to the cinema | Linux/Windows | Mars/Earth
plant cells/animal cells | mitosis/meiosis | weather/climate | a list/a tuple in Python | HTTP/HTTPS
the Roman Empire/the Greek city-states | brown rice/white rice | freelancing/a permanent job | TCP/UDP
a large company/a small start-up | team sports/individual sports | paper money/mobile payments | herbivores/carnivores
natural fibers/synthetic fibers | a community college/a university | bicycles/electric scooters | hot climates/cold climates
early risers/night owls | introverts/extroverts | the Arctic/the Antarctic | glass bottles/plastic bottles | jazz/blues
handwritten notes/typed notes | oil paint/watercolor | stacks/queues | a compiler/an interpreter | saving/investing
""")

PAIR_PHRASES = items("""
Compare {} and {}. | What are the main differences between {} and {}? | Which do you think is better, {} or {}, and why?
How are {} and {} alike, and how do they differ? | I can't choose between {} and {}. Help me decide.
Make a short table that compares {} with {}. | What are the advantages of {} over {}?
In two paragraphs, contrast {} with {}. | When would you choose {} instead of {}? | Is there a big difference between {} and {}?
""")

PROS = items("""
working four days a week | living abroad for a year | school uniforms | social media for teenagers | nuclear power
having a pet | being self-employed | buying a used car | a vegetarian diet | learning to code | artificial intelligence in schools
homework | zoos | living in a big city | online shopping | a universal basic income | space exploration | tourism on small islands
""")

PROS_PHRASES = items("""
What are the pros and cons of {}? | List three advantages and three disadvantages of {}. | Is {} a good idea? Give both sides.
Write a balanced paragraph about the benefits and drawbacks of {}. | Why are some people in favor of {} and others against?
""")

ENGLISH = items("""
Where is the nearest train station? | I would like a table for two, please. | My sister is learning to drive.
The children are playing in the garden. | How much does this jacket cost? | It has been raining since Monday.
We need to finish the project before Friday. | Could you speak a little more slowly? | The museum is closed on Tuesdays.
I lost my umbrella on the bus. | She has lived in this town for ten years. | Good morning, did you sleep well?
There is a small bakery next to the church. | My favorite season is spring because the flowers bloom.
He forgot to lock the door last night. | Do you have this shirt in a larger size? | The soup is too salty.
We are going to the mountains next weekend. | Please turn off the lights when you leave. | I am allergic to nuts.
The meeting was moved to three o'clock. | If I had more time, I would read more books. | Happy birthday, dear friend!
The river is deeper than it looks. | My grandfather used to tell us stories by the fire. | Can I pay by card?
Thank you very much for your help yesterday. | The flight has been delayed by two hours. | I don't understand the question.
Water boils at one hundred degrees.
""")

FOREIGN = {
    "Spanish": items("""
¿Dónde puedo comprar un billete de metro? | Mi hermano trabaja en un hospital. | Hoy hace mucho calor en la playa.
Me gustaría reservar una habitación para dos noches. | El perro duerme debajo de la mesa. | ¿A qué hora empieza la película?
Ayer cenamos en casa de mis abuelos. | No me gusta levantarme temprano. | La biblioteca cierra a las ocho.
Vamos a viajar a Chile el próximo verano."""),
    "French": items("""
Je voudrais un café et un croissant, s'il vous plaît. | Le train pour Lyon part à midi. | Il fait froid ce matin.
Ma mère prépare une tarte aux pommes. | Nous avons visité un vieux château hier. | Où se trouve la pharmacie ?
Les enfants apprennent à nager. | J'ai oublié mon livre à la maison. | Cette rue est très calme le dimanche.
Pouvez-vous m'aider à porter ces sacs ?"""),
    "German": items("""
Ich möchte gern eine Tasse Tee. | Der Bus kommt heute später. | Meine Schwester studiert in Berlin.
Wir gehen am Samstag ins Theater. | Wie komme ich zum Bahnhof? | Das Fenster ist offen und es ist kalt.
Gestern habe ich ein interessantes Buch gelesen. | Die Kinder spielen im Park. | Können Sie das bitte wiederholen?
Im Winter fahren wir oft Ski."""),
}

TO_FOREIGN = items("""
Translate this sentence into {lang}: {text} | How do you say "{text}" in {lang}? | What is the {lang} translation of "{text}"?
Please translate the following from English to {lang}. {text} | I need this in {lang}: "{text}"
Write "{text}" in {lang} and explain each word.
""")

TO_ENGLISH = items("""
Translate this {lang} sentence into English: {text} | What does "{text}" mean in English? | Put this into English: "{text}"
I saw this sentence in {lang}: "{text}" What does it say? | Translate from {lang} to English and explain the grammar: {text}
""")

STRUCTURED = items("""
Make a step-by-step plan for moving to a new house in four weeks. | Plan a three-day trip to Rome for a family of four.
Write a weekly workout plan for someone who has never exercised. | Create a study schedule for a history exam in ten days.
Plan a week of simple dinners and include a shopping list. | Write a checklist for opening a small café in the morning.
Outline a one-hour lesson on fractions for fourth graders. | Make a morning routine that takes thirty minutes.
Create a project plan for building a personal website. | Plan a birthday party for fifteen children, hour by hour.
Write an agenda for a forty-minute meeting about customer complaints. | Make a cleaning schedule for three roommates.
Write a ten-step plan for learning to cook. | Outline a five-paragraph essay about recycling.
Create a beginner's training plan for a 10K race. | Plan a small wedding on a tight budget, month by month.
Draft an outline for a talk about internet safety for seniors. | Make a packing checklist for a week of camping.
Create a table of the planets with their size, distance from the Sun and number of moons.
Make a table of five European countries with their capital, currency and language.
Show the difference between their, there and they're in a table with examples.
Make a markdown table of six fruits with their color, season and main vitamin. | Create a table of common verbs and their past tense.
Build a table with three columns for a reading log and fill in two example rows.
Make a comparison table of three kinds of renewable energy. | Write a table of five musical instruments and the family each belongs to.
Create a simple budget table for a student who earns 900 dollars a month. | Make a table of world oceans and one fact about each.
Write a JSON object that describes a book with title, author, year and genres.
Give me a JSON array of three fictional employees with name, role and start date.
Turn this into JSON: The order has two apples at 0.50 each and one loaf of bread at 3.20.
Return a JSON object with the name, capital and population of Italy.
Write an example JSON configuration file for a small web server and explain each key.
Convert this to JSON: name is Bolt, animal is dog, age is four, likes are swimming and chasing balls.
Write a JSON weather report for a sunny day, with temperature, wind and humidity. | Show a JSON recipe for pancakes.
Put this list into CSV with a header: Tulip, red, spring; Aster, purple, autumn; Lily, white, summer.
Write a YAML file that lists three chores with the person and the day. | Show an XML example of a small music playlist.
Sort these words into nouns, verbs and adjectives: river, jump, cold, teach, mountain, gentle, bright, forget.
Group these foods into fruit, vegetables and grains: oats, carrot, plum, barley, spinach, mango, rye, leek.
Decide whether each animal is a mammal, a bird or a reptile: gecko, otter, heron, turtle, bat, ostrich.
Label each statement as fact or opinion: Snow is frozen water. Winter is the best season. Canada borders the United States.
Order these events from earliest to latest: the moon landing, the invention of the telephone, the building of Stonehenge.
Which word does not belong, and why: violin, trumpet, cello, guitar? | Sort these by size: a whale, a bee, a horse, a cat, a mouse.
Put these tasks in order of urgency: water the plants, pay the overdue rent, buy a birthday card, call a plumber about a leak.
""")

SENTIMENT = items("""
The battery died after two days and nobody answered my calls. | What a lovely little hotel, we will come back every year!
The film was fine, but I would not watch it again. | Shipping took a while, yet the chair is better than I hoped.
I have never tasted a worse sandwich in my life. | The package arrived on Tuesday at noon.
Our teacher made a hard subject feel easy and fun. | The app crashes every time I open the settings page.
Great sound, but the headphones hurt my ears after an hour. | The waiter was rude, the food was cold and the bill was wrong.
My order came early and everything was packed with care. | The room was clean but far too small for three people.
""")

SENTIMENT_PHRASES = items("""
Classify the sentiment of this review as positive, negative or neutral: "{}"
Is the following comment happy or unhappy? Explain your answer. "{}" | What emotion does this sentence express? "{}"
Rate this review from 1 to 5 stars and say why: "{}" | Read this customer comment and suggest a polite reply: "{}"
""")

CHAT = items("""
Hi! How are you today? | Good morning! What should we talk about? | Hello, who are you? | What can you help me with?
Tell me something interesting. | I'm bored. What should I do? | Tell me a joke. | Do you have a favorite color?
I just got a promotion at work! | I had a terrible day today. | Do you ever get tired? | What's your favorite book and why?
My dog turned five today! | Can you keep me company for a while? | I passed my exam! | Do you believe in luck?
What would you do with a million dollars? | What do you think about pineapple on pizza? | Are you a robot?
If you could visit any place, where would you go? | What is the meaning of life? | Thanks for your help earlier!
Do you think people will live on Mars one day? | Is it better to be kind or to be honest? | Say something to cheer me up.
What makes a good friend? | Do you prefer summer or winter? | What is your opinion on remote work? | Good night!
Should children be allowed to have phones at school? | Is money important for happiness? | What is the best invention ever?
Can a machine be creative? | I feel nervous about tomorrow. | It's raining again and I can't go out. | I miss my hometown.
Let's play twenty questions. I will think of an animal, and you ask. | Can we play a word game? You start.
Pretend you are a pirate and tell me about your day. | Act as a travel agent and help me choose a holiday.
You are a friendly librarian. Recommend a book to a shy teenager. | Act as a job interviewer for a sales position and ask me three questions.
Pretend to be a medieval knight who has just seen a car. | You are a chef. I have eggs, spinach and cheese. What shall we cook?
Act as my personal trainer and motivate me to get off the couch. | Imagine you are the Moon. What do you see tonight?
You are a museum guide. Show me around a hall of dinosaurs. | Pretend you are my pet cat and complain about breakfast.
Act as a wise old tree and give me advice. | You are a radio host. Introduce the next song about summer rain.
Speak like a detective from an old film and describe this empty room. | You are a weather presenter. Give a forecast for a stormy weekend.
Play the role of a shopkeeper and sell me an umbrella on a sunny day. | Act as a doctor who explains why breakfast is important.
You are Sherlock Holmes. Explain how you know that I have been to the beach. | Be my debate partner: argue that homework should be banned.
Pretend you are a time traveler from the year 2300. What surprises you most about today? | What are you thinking about right now?
You are a science teacher. Answer a student who asks whether plants feel pain. | How would you describe yourself in three words?
Respond as a grandparent who is asked about the old days. | What did people do for fun before television? I'm curious what you think.
If you were an animal, which one would you be? | What's a good way to start the week? | Do you like music?
""")
