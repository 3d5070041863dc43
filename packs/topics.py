"""What the prompts of the embedded pack are about: lists that `smollm2_prompts.py` combines."""

from __future__ import annotations

THINGS = """
how rain forms; why leaves change colour in autumn; how vaccines work; what inflation is; how a bill becomes a law;
photosynthesis; the water cycle; plate tectonics; how the heart pumps blood; black holes; the causes of the First World
War; the French Revolution; the Silk Road; the Renaissance; the Industrial Revolution; ancient Egypt; the Roman Empire;
the Great Depression; the space race; the invention of the printing press; how electric cars work; how solar panels make
electricity; how wind turbines work; how a refrigerator keeps food cold; how the internet works; what an operating
system does; machine learning; what a database is; encryption; cloud computing; how search engines rank pages; what an
algorithm is; the difference between weather and climate; the greenhouse effect; ocean currents; coral reefs; why the
sea is salty; tides; earthquakes; volcanoes; glaciers; deserts; rainforests; biodiversity; endangered species; how bees
make honey; how birds migrate; how bats find their way in the dark; how plants grow from seeds; the life of a butterfly;
dinosaurs; evolution; genes and DNA; cells; bacteria and viruses; the immune system; sleep; memory; stress; why exercise
is healthy; a balanced diet; vitamins; sugar; caffeine; how the eye sees; how the ear hears; gravity; magnetism; light;
sound; heat; energy; atoms; the periodic table; acids and bases; rust; combustion; nuclear power; the solar system; the
Moon; Mars; stars; galaxies; the Big Bang; telescopes; satellites; time zones; leap years; the calendar; fractions;
percentages; probability; prime numbers; the Pythagorean theorem; averages; supply and demand; interest rates; taxes;
insurance; the stock market; banks; unemployment; globalisation; trade; democracy; human rights; the United Nations;
elections; constitutions; courts; freedom of speech; jazz; classical music; opera; painting; sculpture; photography; film;
theatre; poetry; novels; myths; folk tales; architecture; bridges; skyscrapers; railways; aeroplanes; ships; bicycles;
maps; compasses; clocks; paper; glass; steel; plastics; recycling; composting; rivers; lakes; mountains; islands; the
Amazon; the Sahara; the Himalayas; the Arctic; Antarctica; Japan; India; Brazil; Kenya; Italy; Canada; Australia; Mexico;
Egypt; Greece; coffee; tea; chocolate; bread; cheese; rice; olive oil; spices; chess; football; basketball; the Olympic
Games; swimming; yoga; video games; board games; social media; newspapers; advertising; languages; writing systems
""".replace("\n", " ").split(";")

SKILLS = """
cook rice; bake a simple bread; make a vegetable soup; plan meals for a week; save money each month; make a budget; learn
a new language; remember names; read faster; write a good essay; give a speech; prepare for a job interview; write a
resume; ask for a raise; work from home; stay focused while studying; manage my time; wake up earlier; sleep better; start
running; stretch after sport; drink more water; eat less sugar; quit a bad habit; make new friends; be a better listener;
apologise to a friend; handle an argument; calm down before an exam; train a puppy; look after a cat; grow tomatoes on a
balcony; keep houseplants alive; start a compost heap; clean an oven; remove a coffee stain; iron a shirt; fold a fitted
sheet; pack a suitcase; plan a trip on a small budget; choose a camera; take better photos; draw a face; learn the guitar;
practise the piano; write a short story; start a blog; choose a strong password; back up my computer; speed up a slow
laptop; learn to program; fix a flat bicycle tyre; change a light bulb safely; paint a room; hang a picture; unclog a
sink; choose a mattress; buy a used car; drive in snow; save fuel; reduce waste at home; save electricity; organise a
birthday party; plan a picnic; host a dinner for six; choose a gift for a colleague; write a thank-you note; run a
meeting; work in a team; lead a small project; give feedback; deal with a difficult customer; sell handmade things; name
a small business; teach a child to read; help a child with homework; explain death to a child; keep a diary; meditate;
learn to swim; prepare for a hike; read a map; stay safe in the sun; treat a small burn; recognise dehydration
""".replace("\n", " ").split(";")

PEOPLE = """
a lighthouse keeper; a young inventor; a retired teacher; a lonely robot; a baker in a small town; two sisters; a dragon
who is afraid of fire; a detective; a musician; a gardener; a sailor; a girl who talks to birds; an old clockmaker; a
shy boy; a travelling doctor; a queen; a taxi driver; a librarian; a pilot; a fisherman; a scientist on Mars; a cat that
runs a bookshop; a knight; a painter; a nurse; a chess champion; a street vendor; a shepherd; an astronaut; a chef
""".replace("\n", " ").split(";")

PLACES = """
a village by the sea; a city of glass; a snowed-in train; an abandoned castle; a busy market; a desert camp; a forest at
night; a school in the mountains; a spaceship; a small island; a library under the ground; a quiet farm; an old theatre;
a hospital; a harbour; a kitchen at dawn; a crowded bus; a garden in spring; a bridge in the fog; a museum after closing
""".replace("\n", " ").split(";")

PAIRS = """
cats and dogs; tea and coffee; trains and planes; city life and country life; books and films; summer and winter; renting
and buying a home; electric cars and petrol cars; online classes and classroom lessons; Python and JavaScript; laptops and
tablets; running and swimming; apples and oranges; cash and cards; working alone and working in a team; democracy and
monarchy; solar power and wind power; mountains and beaches; letters and e-mails; cooking at home and eating out; novels
and poems; gold and silver; lists and dictionaries in Python; SQL and NoSQL databases; bacteria and viruses; frogs and
toads; planets and stars; weather and climate; mean and median; speed and velocity; plants and fungi; rivers and lakes;
bicycles and scooters; paper bags and plastic bags; guitars and violins; football and basketball; butter and margarine
""".replace("\n", " ").split(";")

PROGRAMS = """
reverses a string; checks whether a word is a palindrome; counts the words in a text; finds the largest number in a list;
sorts a list of names; computes the factorial of a number; prints the first n Fibonacci numbers; checks whether a number
is prime; removes duplicates from a list; merges two sorted lists; computes the average of a list; converts Celsius to
Fahrenheit; counts the vowels in a sentence; reads a CSV file and prints each row; writes a dictionary to a JSON file;
finds the common elements of two lists; flattens a nested list; checks whether two words are anagrams; generates a random
password; rolls two dice; simulates a coin toss; finds the longest word in a sentence; computes the area of a circle;
converts a number to binary; groups words by their first letter; counts how often each letter occurs; finds the second
largest number; transposes a matrix; implements a stack; implements a queue; does a binary search; sorts with bubble sort;
sorts with quicksort; validates an e-mail address; parses a date; prints a multiplication table; sums the digits of a
number; finds all even numbers in a list; capitalises each word; computes the greatest common divisor; draws a triangle of
stars; splits a bill between friends; keeps a to-do list; downloads a web page; measures how long a function takes
""".replace("\n", " ").split(";")

CUSTOMERS = """
a refund for a broken lamp; a later delivery date; a lost suitcase; a wrong invoice; a table for eight on Friday; a day
off next week; feedback on a draft report; the minutes of a meeting; a new desk chair; a letter of recommendation; an
extension of a deadline; the price of a kitchen; a change of address; a parking permit; a missed appointment; noise from
the flat upstairs; a school trip; a book club; a farewell party; a volunteer day; a lost library book; a broken heating
""".replace("\n", " ").split(";")

SENTENCES = """
The train leaves at half past seven.; I would like a cup of tea, please.; Where is the nearest pharmacy?; My sister lives in
a small house by the river.; We are going to the market tomorrow morning.; The children played in the garden all day.; It
has been raining since yesterday.; Could you help me carry these boxes?; He forgot his keys on the kitchen table.; This is the
best soup I have ever eaten.; The museum is closed on Mondays.; She has worked in this hospital for ten years.; How much does
this jacket cost?; I have lost my ticket.; The mountain is covered with snow.; Our dog is afraid of thunder.; Please turn off
the light before you leave.; They moved to another city last spring.
""".replace("\n", " ").split(";")

PASSAGES = [
    "The town library reopened on Saturday after two years of repairs. The roof, which had leaked since the storm of 2019, "
    "was replaced, and a reading room for children was added on the ground floor. Mayor Lopez thanked the ninety volunteers "
    "who carried the books back by hand. The library is now open every day except Monday, and membership stays free.",
    "Honey bees live in colonies of up to sixty thousand insects. One queen lays all the eggs, while the workers collect "
    "nectar, feed the larvae and guard the entrance. In winter the bees form a tight ball and shiver to keep the queen warm. "
    "They live on the honey they stored in summer, which is why a beekeeper never takes all of it.",
    "Our hiking club met at the north gate at eight in the morning. Because fog lay over the ridge, we took the lower path "
    "along the river and reached the hut at noon. After soup and bread the sky cleared, and most of us climbed the last three "
    "hundred metres. Everyone was back at the bus by six, tired but happy.",
    "The company sold 12,400 bicycles in the first half of the year, eight percent more than a year ago. Electric models made "
    "up a third of all sales. Costs for steel and shipping rose, so profit stayed at two million euros. The board expects a "
    "weaker autumn but plans to open a new workshop in Porto next spring.",
    "A glacier forms where more snow falls in winter than melts in summer. Over many years the snow is pressed into ice, which "
    "begins to flow slowly downhill. As it moves, the ice scrapes the rock and carries stones along. When the climate warms, "
    "glaciers shrink and leave behind lakes, valleys and long ridges of rubble.",
    "Dear team, from next Monday the cafeteria will close at three instead of four. The kitchen needs the extra hour to prepare "
    "meals for the evening school. Coffee and fruit will still be available from the machines on the second floor. If you have "
    "questions or ideas, please write to Hanna before Friday.",
    "The clock in the old station had stopped at ten past four, and nobody in the village could remember a time when it had run. "
    "Then a girl named Ida found a small brass wheel in her grandfather's drawer. She climbed the tower with a lamp and a "
    "screwdriver. The next morning the bell rang for the first time in forty years.",
    "Water boils at a lower temperature on a mountain than at the sea, because the air presses less on its surface. That is why "
    "pasta takes longer to cook in a hut at three thousand metres. A pressure cooker does the opposite: its lid keeps the steam "
    "in, the pressure rises, and the food is done sooner.",
    "In 1854 a doctor named John Snow marked every case of cholera in his part of London on a map. Most of the dots lay around "
    "one water pump. When its handle was removed, the disease faded. At that time most people believed that bad air made them "
    "ill, so his map changed how cities thought about clean water.",
    "The recipe is simple. Mix three cups of flour with a spoon of salt and a little yeast, add warm water, and stir until no dry "
    "flour is left. Let the dough rest overnight under a cloth. In the morning fold it twice, shape a round loaf, and bake it in "
    "a hot pot for forty minutes, the last ten without the lid.",
    "Many birds cross the sea twice a year. They steer by the sun, by the stars and by the magnetic field of the Earth, and young "
    "birds often know the direction without ever having flown it. Storms, bright city lights and missing resting places make the "
    "journey dangerous, so fewer birds arrive than set out.",
    "The new tram line connects the university with the harbour in eighteen minutes. It runs every six minutes during the day and "
    "every fifteen at night. A single ticket costs two euros, and students ride free. Residents had feared noise, but rubber "
    "mats below the rails keep the trams quieter than the buses they replace.",
]
